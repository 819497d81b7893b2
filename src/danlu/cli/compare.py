"""`danlu compare RUN RUN…`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from danlu.base.log import display_width, pad

if TYPE_CHECKING:
    from danlu.evaluation.compare import Comparison


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--out", type=click.Path(), help="HTML file to write; default: below runs/comparisons/.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def command(runs: tuple[str, ...], out: str | None, as_json: bool) -> None:
    """Compare RUNS on the test examples they share: is one better, or could it be chance?

    \b
    danlu compare runs/a runs/b
    """
    from danlu.evaluation.compare import compare

    comparison = compare(runs, page=out)
    if as_json:
        click.echo(json.dumps(comparison.to_json(), ensure_ascii=False))
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    width = max(display_width(name) for name in ("run", *(run.name for run in comparison.runs)))
    click.echo(f"{comparison.examples:,} test examples")
    for note in comparison.notes:
        click.echo(f"  {note}")
    click.echo(f"{pad('run', width)}  model       accuracy   95 % interval        log loss   seconds")
    for run in comparison.runs:
        low, high = run.accuracy_interval
        loss = f"{run.log_loss:.4f}" if run.log_loss is not None else "-"
        click.echo(
            f"{pad(run.name, width)}  {run.model:<10}  {run.accuracy:>8.2%}   {low:.2%} to {high:.2%}"
            f"   {loss:>9}  {run.seconds:>8,.1f}"
        )
    for pair in comparison.pairs:
        click.echo(pair.sentence())
