"""`danlu runs`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from danlu.base import log
from danlu.base.errors import ConfigError, ModelError
from danlu.base.log import display_width, pad

if TYPE_CHECKING:
    from danlu.base.runs import Run

HEADER = ("run", "state", "model", "epochs", "validation", "test", "95 % interval", "seconds", "ended because")
LEFT = (0, 1, 2)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--markdown", "as_markdown", is_flag=True, help="A Markdown table, to be kept as a log of experiments.")
def command(as_json: bool, as_markdown: bool) -> None:
    """All runs, oldest first, failed ones included; `record.md` of a run says more.

    \b
    danlu runs
    danlu runs --markdown > experiments.md
    """
    from danlu.base.runs import list_runs, runs_folder

    if as_json and as_markdown:
        raise ConfigError("`--json` and `--markdown` are two ways to show the same", hint="give one of them")
    runs = list_runs()
    if not runs:
        log.say(f"no runs below `{runs_folder()}` yet; `danlu train DATA` makes one")
        return
    statuses = [_status(run) for run in runs]
    if as_json:
        for run, status in zip(runs, statuses, strict=True):
            click.echo(json.dumps({"name": run.name, "folder": str(run.folder), **status}, ensure_ascii=False))
        return
    rows = [_row(run, status) for run, status in zip(runs, statuses, strict=True)]
    if as_markdown:
        for line in (HEADER, ("---",) * len(HEADER), *rows):
            click.echo("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |")
        return
    widths = [max(display_width(line[place]) for line in (HEADER, *rows)) for place in range(len(HEADER) - 1)]
    for line in (HEADER, *rows):
        cells = [
            pad(cell, width) if place in LEFT else " " * (width - display_width(cell)) + cell
            for place, (cell, width) in enumerate(zip(line, widths, strict=False))
        ]
        click.echo("  ".join([*cells, line[-1]]).rstrip())


def _status(run: Run) -> dict[str, Any]:
    try:
        return {**run.status(), "state": run.state()}
    except ModelError as error:
        log.warn(error.message)
        return {"state": "damaged"}


def _row(run: Run, status: dict[str, Any]) -> tuple[str, ...]:
    best, test = status.get("best"), status.get("test")
    return (
        run.name,
        str(status.get("state", "?")),
        str(status.get("model", "?")),
        str(status.get("epochs_done", len(run.history()))),
        f"{best['validation_accuracy']:.2%}" if best and best["validation_accuracy"] is not None else "-",
        f"{test['accuracy']:.2%}" if test else "-",
        f"{test['accuracy_interval'][0]:.2%} to {test['accuracy_interval'][1]:.2%}" if test else "-",
        f"{status.get('seconds', 0):,.1f}",
        " ".join(str(status.get("stop_reason") or "").split()),
    )
