"""`danlu monitor JOURNAL`, `danlu monitor compare JOURNAL`, `danlu monitor rules BUNDLE`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danlu.base.log import display_width, pad

if TYPE_CHECKING:
    from danlu.monitoring.comparing import ArmsCompared
    from danlu.monitoring.found import Monitored, Watched

READ = "read"  # what `danlu monitor JOURNAL` is for click
ALARM = 3  # the exit code of data that is not what it should be
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SHOWN_CLASSES = 5


class _Group(click.Group):
    """A word that is no sub-command is a journal."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_own = not args or args[0] in self.commands or args[0] in ("-h", "--help")
        return super().parse_args(ctx, args if is_own else [READ, *args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Options of `danlu monitor JOURNAL`"):
            formatter.write_dl(list(filter(None, (one.get_help_record(ctx) for one in self.commands[READ].params))))
        self.format_commands(ctx, formatter)


@click.group(cls=_Group, subcommand_metavar="JOURNAL | COMMAND …")
def command() -> None:
    """Watch what a service answers: numbers, drift, alarms, a page.

    \b
    danlu monitor journal                      once; exit code 3 while there is drift
    danlu monitor journal --watch              until Ctrl-C, with a page that follows
    danlu monitor compare journal              which of two models is better
    danlu monitor rules runs/latest            alerts and a dashboard for Prometheus and Grafana
    """


@command.command(READ, hidden=True)
@click.argument("folders", metavar="JOURNAL…", nargs=-1, required=True)
@click.option("--bundle", help="Bundle with reference statistics, where the journal has none.")
@click.option("--watch", "is_watching", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--since", metavar="TIME", help="Only the last 90m, 24h or 7d.")
@click.option("--false-alarm-days", "days", default=30.0, show_default=True, help="In which one is expected.")
@click.option("--page", default=None, type=click.Path(), help="HTML file; default: monitor.html in JOURNAL.")
@click.option("--no-page", is_flag=True, help="Write none.")
@click.option("--webhook", envvar="DANLU_WEBHOOK", help="Address to post alarms to; or DANLU_WEBHOOK.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def read(
    folders: tuple[str, ...],
    is_watching: bool,
    since: str | None,
    page: str | None,
    no_page: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Read JOURNAL, or those of several replicas: what was answered, and is it still what the model was made for?"""
    from danlu.base import log
    from danlu.monitoring.monitor import PAGE, MonitorSettings, monitor, watch

    if no_page and page is not None:
        raise click.UsageError("--page and --no-page exclude each other")
    written = None if no_page else page or Path(folders[0]) / PAGE
    settings = MonitorSettings(since=_seconds(since), page=written, **options)
    if is_watching:
        if as_json:
            raise click.UsageError("--watch tells events as they happen; --json is for one look")
        before: object = None
        for found in watch(folders, settings, lambda event: log.warn(f"{event.model}: {event.text}")):
            now = [(one.model, one.state) for one in found.models], found.untimely > 0
            if now != before:
                _print(found)
                before = now
    found = monitor(folders, settings)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _print(found)
    sys.exit(ALARM if found.has_alarm else 0)


def _seconds(told: str | None) -> float | None:
    if told is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", told.strip())
    if found is None:
        raise click.UsageError(f"--since takes a time such as 90m, 24h or 7d, got {told!r}")
    return float(found[1]) * UNITS[found[2]]


def _print(found: Monitored) -> None:
    for one in found.in_full:
        _print_model(one)
    for one in found.in_short:
        _print_short(one)
    for note in found.notes:
        click.echo(note)
    if found.page is not None:
        click.echo(f"page: {found.page}", err=True)


def _title(one: Watched) -> str:
    from danlu.monitoring.drift import FEWEST

    few = f"too few answers, of {FEWEST} that it takes"
    state = {"retrain": "time to retrain", "too few answers": few}.get(one.state, one.state)
    kind = (" (shadow)" if one.is_shadow else "") + (" (replaced)" if one.is_replaced else "")
    return f"{one.model}{kind}: {state}"


def _print_short(one: Watched) -> None:
    from danlu.monitoring.alarms import local

    whole, alarms = one.timeline.whole(), f"; alarms: {len(one.alarms):,}" if one.alarms else ""
    times = f"{local(one.timeline.first)} to {local(one.timeline.last)}"
    click.echo(f"{_title(one)}; {whole.answers:,} answers from {times}{alarms}")


def _print_model(one: Watched) -> None:
    from danlu.monitoring.alarms import local

    told, alarm = one.to_json(), one.alarm
    since = f" since {local(alarm.start)}" if alarm is not None else ""
    since += f", over {alarm.answers:,} answers" if alarm is not None and alarm.answers else ""
    click.echo(f"{_title(one)}{since}")
    latency = "   ".join(f"{name} {ms:.3g} ms" for name, ms in told["latency_ms"].items())
    rows = {
        "answers": f"{told['answers']:,} from {local(one.timeline.first)} to {local(one.timeline.last)}",
        "confidence": f"mean {told['mean_confidence']:.3f}   below 0.7: {told['low_confidence']:.1%}"
        f"   unknown: {told['unknown']:.1%}",
        "latency": latency,
        "classes": ", ".join(
            f"{name} {share:.1%}" for name, share in list(told["class_shares"].items())[:SHOWN_CLASSES]
        ),
    }
    for name, text in rows.items():
        click.echo(f"  {pad(name, 11)} {text}")
    for past in one.alarms:
        end = f"to {local(past.end)}" if past.end is not None else "until now"
        click.echo(
            f"  alarm       {local(past.start)} {end}: {past.worst[0].sentence} ({past.worst[0].ratio:.1f} × limit)"
        )
        for signal in past.worst[1:4]:
            click.echo(f"              {signal.sentence} ({signal.ratio:.1f} × limit)")


@command.command("compare", short_help="Which of two models in JOURNAL is better.")
@click.argument("folders", metavar="JOURNAL…", nargs=-1, required=True)
@click.option("--labels", type=click.Path(), help="CSV with the columns id and label: what is right.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Twice, where JOURNAL has more than two; NAME:answers or NAME:shadow where it was both.",
)
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def compare(folders: tuple[str, ...], labels: str | None, models: tuple[str, ...], as_json: bool) -> None:
    """Compare the models in JOURNAL, by a test that may be looked at any time.

    \b
    danlu monitor compare journal --labels labels.csv
    danlu monitor compare journal --model A:answers --model B:shadow
    """
    from danlu.monitoring.comparing import compare_arms

    found = compare_arms(folders, labels, models)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _print_compared(found)


def _print_compared(found: ArmsCompared) -> None:
    width = max(display_width(name) for name in ("model", *(one.model for one in found.arms)))
    click.echo(f"{pad('model', width)}   answers   labelled   accuracy   mean confidence   p50 ms   p99 ms")
    for one in found.arms:
        accuracy = f"{one.accuracy:.2%}" if one.accuracy is not None else "-"
        click.echo(
            f"{pad(one.model, width)}  {one.answers:>8,}  {one.labelled:>9,}  {accuracy:>9}"
            f"  {one.mean_confidence:>16.3f}  {one.p50_ms:>7.3g}  {one.p99_ms:>7.3g}"
        )
    for note in found.notes:
        click.echo(note)
    click.echo(found.decision)


@command.command("rules", short_help="Alerts for Prometheus, a dashboard for Grafana.")
@click.argument("bundle")
@click.option("--out", default=".", show_default=True, type=click.Path(), help="Folder for the two files.")
def rules(bundle: str, out: str) -> None:
    """Write alerts for Prometheus and a dashboard for Grafana, for the service of BUNDLE."""
    from danlu.monitoring.prometheus import write_rules

    for path in write_rules(bundle, out):
        click.echo(path)
