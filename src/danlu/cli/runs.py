"""`danlu runs`."""

from __future__ import annotations

import json

import click

from danlu.base import log
from danlu.base.errors import ModelError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(as_json: bool) -> None:
    """All runs, oldest first, failed ones included; `record.md` of a run says more."""
    from danlu.base.runs import list_runs, runs_folder
    from danlu.cli.evaluate import display_width, pad

    runs = list_runs()
    if not runs:
        log.say(f"no runs below `{runs_folder()}` yet; `danlu train DATA` makes one")
        return
    width = max(display_width(name) for name in ("run", *(run.name for run in runs)))
    if not as_json:
        click.echo(f"{pad('run', width)}  state        model       epochs  validation     test   seconds")
    for run in runs:
        try:
            status = {**run.status(), "state": run.state()}
        except ModelError as error:
            log.warn(error.message)
            status = {"state": "damaged"}
        if as_json:
            click.echo(json.dumps({"name": run.name, "folder": str(run.folder), **status}, ensure_ascii=False))
            continue
        best, test = status.get("best"), status.get("test")
        validated = f"{best['validation_accuracy']:.2%}" if best else "-"
        tested = f"{test['accuracy']:.2%}" if test else "-"
        click.echo(
            f"{pad(run.name, width)}  {status.get('state', '?'):<11}  {status.get('model', '?'):<10}"
            f"  {status.get('epochs_done', len(run.history())):>6}"
            f"  {validated:>10}  {tested:>7}  {status.get('seconds', 0):>8,.1f}"
        )
