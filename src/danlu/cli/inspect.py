"""`danlu inspect DATA`."""

from __future__ import annotations

import json

import click

from danlu.base.errors import DataError
from danlu.base.machine import suit_process_to_training


@click.command()
@click.argument("data")
@click.argument("settings", nargs=-1, metavar="[section.key=value]…")
@click.option("--labels", is_flag=True, help="Also look for wrong labels, by models trained without the example.")
@click.option("--config", type=click.Path(), help="YAML file with settings.")
@click.option("--out", type=click.Path(), help="Folder for the page and the JSON; default: below runs/inspections/.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def command(
    data: str, settings: tuple[str, ...], labels: bool, config: str | None, out: str | None, as_json: bool
) -> None:
    """Describe DATA and look for its faults; the exit code is 3 when a training would stop.

    \b
    danlu inspect photos/
    danlu inspect reviews.csv --labels
    """
    if labels:
        suit_process_to_training()
    from danlu.inspection.inspect import inspect

    inspection = inspect(data, config=config, words=settings, labels=labels, folder=out)
    if as_json:
        click.echo(json.dumps(inspection.to_json(), ensure_ascii=False))
    else:
        for finding in inspection.findings:
            click.echo(f"{finding.severity:<7}  {finding.check}: {finding.message}")
            click.echo(f"{'':<7}  {finding.advice}")
        if not inspection.findings:
            click.echo("nothing found")
        click.echo(str(inspection.page))
    if inspection.has_errors:
        raise SystemExit(DataError.exit_code)
