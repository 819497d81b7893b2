"""`danlu evaluate RUN`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from danlu.base import log

if TYPE_CHECKING:
    from danlu.evaluation.evaluate import Evaluation

SHOWN = 5


@click.command()
@click.argument("run")
@click.option("--data", help="Score these labelled examples instead of the run's test part.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def command(run: str, data: str | None, as_json: bool) -> None:
    """Score RUN on its untouched test part.

    \b
    danlu evaluate runs/latest
    danlu evaluate runs/latest --data more-photos/ --json
    """
    from danlu.evaluation.evaluate import evaluate

    evaluation = evaluate(run, data)
    if as_json:
        click.echo(json.dumps(evaluation.to_json(), ensure_ascii=False))
    else:
        print_evaluation(evaluation, to_stdout=True)


def print_evaluation(evaluation: Evaluation, *, to_stdout: bool = False) -> None:
    """The numbers a person reads first."""
    tell = click.echo if to_stdout else log.say
    low, high = evaluation.accuracy_interval
    tell(
        f"{evaluation.data}: accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%},"
        f" {evaluation.examples:,} examples), log loss {evaluation.log_loss:.4f}"
    )
    width = max(display_width(name) for name in (*evaluation.classes, "weighted mean"))
    tell(f"  {pad('class', width)}   precision   recall       F1   examples")
    for name, row in evaluation.per_class.items():
        tell(_row(name, width, row, f"{row['support']:>8,.0f}"))
    for kind, row in evaluation.averages.items():
        interval = evaluation.intervals.get(f"{kind}_f1")
        tell(_row(f"{kind} mean", width, row, f"   F1 {interval[0]:.2%} to {interval[1]:.2%}" if interval else ""))
    for k, share in evaluation.top_k.items():
        tell(f"  among the {k} most probable: {share:.2%}")
    if evaluation.most_confused:
        pairs = ", ".join(f"{p['truth']} → {p['answer']} ({p['count']})" for p in evaluation.most_confused[:SHOWN])
        tell(f"  most confused (truth → answer): {pairs}")


def display_width(text: str) -> int:
    """Columns a text takes on a terminal, where Chinese signs take two."""
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def pad(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))


def _row(name: str, width: int, row: dict[str, float], end: str) -> str:
    return f"  {pad(name, width)}   {row['precision']:9.2%}  {row['recall']:7.2%}  {row['f1']:7.2%}   {end}".rstrip()
