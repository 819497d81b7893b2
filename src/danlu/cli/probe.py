"""`danlu probe DATA`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from danlu.base.errors import ConfigError
from danlu.base.log import display_width, pad
from danlu.base.machine import suit_process_to_training

if TYPE_CHECKING:
    from danlu.diagnosis.probe import Probed


@click.command()
@click.argument("data", required=False)
@click.argument("settings", nargs=-1, metavar="[section.key=value]…")
@click.option("--config", type=click.Path(), help="YAML file with settings.")
@click.option("--out", type=click.Path(), help="Folder for the page and the JSON; default: below runs/probes/.")
@click.option("--cure", "try_cure", is_flag=True, help="Probe again with what the first finding proposes.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def command(
    data: str | None, settings: tuple[str, ...], config: str | None, out: str | None, try_cure: bool, as_json: bool
) -> None:
    """Try in half a minute what `danlu train DATA` would train: can it learn at all, and with which learning rate?

    One step is looked at from inside, one small batch is learnt by heart, and the learning rate is raised until the
    loss blows up. No run is made; the exit code is 0 whatever is found.

    \b
    danlu probe photos/
    danlu probe reviews.csv model.name=bilstm training.learning_rate=0.01
    danlu probe photos/ training.optimizer=sgd --cure
    """
    if data is None:
        raise ConfigError("no DATA given", hint="`danlu probe photos/`, or a name from `danlu data list`")
    if "=" in data and "." in data.partition("=")[0]:
        raise ConfigError(f"`{data}` is a setting; DATA comes first", hint=f"`danlu probe DATA {data}`")
    suit_process_to_training()
    from danlu.diagnosis.probe import cure_probe, probe

    probed = probe(data, config=config, words=settings, folder=out)
    if try_cure:
        if not as_json:
            print_probe(probed)
        cured = cure_probe(probed, data, config=config, words=settings, folder=out)
        if as_json:
            told = {"before": probed.to_json(), "after": cured.after.to_json(), "told": cured.told}
            click.echo(json.dumps(told, ensure_ascii=False))
            return
        print_probe(cured.after)
        click.echo(cured.told)
        click.echo(str(cured.after.page))
        return
    if as_json:
        click.echo(json.dumps(probed.to_json(), ensure_ascii=False))
        return
    print_probe(probed)
    click.echo(str(probed.page))


def print_probe(probed: Probed) -> None:
    """What was tested, the result and its numbers; what was found; what to do."""
    from danlu.cli.diagnose import print_found
    from danlu.diagnosis.probe import probe_rows

    rows = [("tested", "result", "numbers"), *probe_rows(probed)]
    widths = [max(display_width(row[place]) for row in rows) for place in (0, 1)]
    for what, result, numbers in rows:
        click.echo(f"{pad(what, widths[0])}   {pad(result, widths[1])}   {numbers}")
    for found in probed.findings:
        print_found(found)
    if any(found.diagnosis.cure.settings for found in probed.findings):
        return
    if probed.command is not None:
        click.echo(f"{'try' if probed.findings else 'may train better'}: {probed.command}")
    elif probed.suggested_rate is not None:
        click.echo(f"the configured learning rate {probed.configured['learning_rate']:g} is fine")
