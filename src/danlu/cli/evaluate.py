"""`danlu evaluate RUN`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from danlu.base import log
from danlu.base.errors import ConfigError
from danlu.base.log import display_width, pad
from danlu.base.machine import suit_process_to_training
from danlu.cli.inputs import share_of

if TYPE_CHECKING:
    from danlu.evaluation.evaluate import Evaluation

SHOWN = 5
MOST_CLASSES, LONGEST_NAME = 40, 40


@click.command()
@click.argument("run")
@click.option("--data", help="Score these labelled examples instead of the run's test part.")
@click.option(
    "--max-error",
    metavar="SHARE",
    help="From now on answer `unknown` where needed to keep to this share of wrong answers, such as 2%; `off` ends it.",
)
@click.option("--explain", is_flag=True, help="Show in the report where the model looked (needs the extra `explain`).")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def command(run: str, data: str | None, max_error: str | None, explain: bool, as_json: bool) -> None:
    """Score RUN on its untouched test part and write its report.html.

    \b
    danlu evaluate runs/latest
    danlu evaluate runs/latest --max-error 2%
    danlu evaluate runs/latest --data more-photos/ --json
    """
    suit_process_to_training()
    from danlu.evaluation.evaluate import evaluate
    from danlu.reporting.report import report

    if data is not None and explain:
        raise ConfigError("`--explain` is about the run's own report", hint="leave `--data` or `--explain` out")
    if max_error is not None:
        from danlu.evaluation.evaluate import choose_max_error

        choose_max_error(run, None if max_error.strip().lower() == "off" else share_of(max_error, "--max-error"))
    evaluation = evaluate(run, data)
    if as_json:
        click.echo(json.dumps(evaluation.to_json(), ensure_ascii=False))
    else:
        print_evaluation(evaluation, to_stdout=True)
    if data is None:
        if explain:
            from danlu.explanation.explain import explain_gallery

            explain_gallery(run)
        log.say(f"report: {report(run)}")


def print_evaluation(evaluation: Evaluation, *, to_stdout: bool = False) -> None:
    """The numbers a person reads first."""
    tell = click.echo if to_stdout else log.say
    low, high = evaluation.accuracy_interval
    tell(
        f"{evaluation.data}: accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%},"
        f" {evaluation.examples:,} examples), log loss {evaluation.log_loss:.4f}"
    )
    width = min(LONGEST_NAME, max(display_width(name) for name in (*evaluation.classes, "weighted mean")))
    tell(f"  {pad('class', width)}   precision   recall       F1   examples")
    rows = list(evaluation.per_class.items())
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda item: (not item[1]["support"], item[1]["f1"]))[:MOST_CLASSES]
    for name, row in rows:
        tell(_row(name, width, row, f"{row['support']:>8,.0f}"))
    if len(rows) < len(evaluation.per_class):
        tell(f"  the {len(rows)} of the lowest F1 of {len(evaluation.per_class):,} classes; --json has all")
    for kind, row in evaluation.averages.items():
        interval = evaluation.intervals.get(f"{kind}_f1")
        tell(_row(f"{kind} mean", width, row, f"   F1 {interval[0]:.2%} to {interval[1]:.2%}" if interval else ""))
    for k, share in evaluation.top_k.items():
        tell(f"  among the {k} most probable: {share:.2%}")
    for note in evaluation.notes:
        tell(f"  note: {note}")
    if chosen := evaluation.rejection.get("chosen"):
        left_out = evaluation.examples - chosen["answered"]
        wrong = "" if chosen["error"] is None else f"; of those answered {chosen['error']:.2%} are wrong"
        tell(f"  answered with `unknown`: {left_out:,} of {evaluation.examples:,}{wrong}")
    if evaluation.most_confused:
        pairs = ", ".join(f"{p['truth']} → {p['answer']} ({p['count']})" for p in evaluation.most_confused[:SHOWN])
        tell(f"  most confused (truth → answer): {pairs}")


def _row(name: str, width: int, row: dict[str, float], end: str) -> str:
    if row.get("support") == 0:
        return f"  {pad(name, width)}   {'-':>9}  {'-':>7}  {'-':>7}   {end}".rstrip()
    return f"  {pad(name, width)}   {row['precision']:9.2%}  {row['recall']:7.2%}  {row['f1']:7.2%}   {end}".rstrip()
