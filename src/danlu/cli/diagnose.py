"""`danlu diagnose RUN`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from danlu.base import log
from danlu.base.errors import DataError, ModelError
from danlu.base.machine import suit_process_to_training

if TYPE_CHECKING:
    from danlu.base.runs import Run
    from danlu.diagnosis.found import Found

LAYERS = (
    ("gradient", "gradient_norm"),
    ("weights", "weight_norm"),
    ("update ÷ weights", "update_ratio"),
    ("dead", "dead_share"),
    ("mean", "activation_mean"),
    ("std", "activation_std"),
)


@click.command()
@click.argument("run")
@click.option("--all", "show_all", is_flag=True, help="Every finding, not the first three alone.")
@click.option("--layers", is_flag=True, help="The table of layers too.")
@click.option("--cure", "try_cure", is_flag=True, help="Train again with what the first finding proposes, and compare.")
@click.option("--of", "disease", metavar="FINDING", help="With --cure: the finding to cure.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def command(run: str, show_all: bool, layers: bool, try_cure: bool, disease: str | None, as_json: bool) -> None:
    """Name what is wrong with the training of RUN, with evidence and the command that cures it.

    Works on finished, failed and interrupted runs; writes findings.json and diagnosis.html into the run.

    \b
    danlu diagnose runs/latest
    danlu diagnose runs/latest --layers
    danlu diagnose runs/latest --cure
    """
    if try_cure:
        suit_process_to_training()
    from danlu.base.errors import ConfigError
    from danlu.diagnosis.diagnose import diagnose

    if disease is not None and not try_cure:
        raise ConfigError("`--of FINDING` says which finding to cure", hint="`danlu diagnose RUN --cure --of FINDING`")
    if try_cure:
        from danlu.diagnosis.cure import cure

        cured = cure(run, disease)
        click.echo(json.dumps(cured.to_json(), ensure_ascii=False) if as_json else f"{cured.disease}: {cured.told}")
        if cured.run and not as_json:
            click.echo(cured.run)
        return
    findings = diagnose(run)
    if as_json:
        click.echo(json.dumps(findings.to_json(), ensure_ascii=False))
        return
    for found in findings.found if show_all else findings.first:
        print_found(found)
    more = len(findings.found) - len(findings.first)
    if more and not show_all:
        click.echo(f"and {more} more: `danlu diagnose {run} --all`")
    if not findings.found and not findings.run.steps() and not findings.run.history():
        click.echo("no step of this training was kept, so there is nothing to look at")
    elif not findings.found:
        click.echo(f"nothing found; looked for {len(findings.looked_for)} diseases (`danlu list diseases`)")
    if layers:
        _print_layers(findings.layers)
    click.echo(str(findings.run.diagnosis_file))


def print_found(found: Found) -> None:
    """A finding with its evidence, its cure, and the line to paste."""
    one = found.diagnosis
    click.echo(f"{one.level:<7} {one.disease}: {one.sentence}")
    for what, value in one.evidence:
        click.echo(f"{'':<8}{what}: {value}")
    click.echo(f"{'':<8}cure: {one.cure.advice}")
    if found.command:
        click.echo(f"{'':<8}$ {found.command}")


def _print_layers(rows: tuple[dict, ...]) -> None:
    """Medians over the steps that were looked at."""
    names = [f"{row['name']} ({row['kind']})" for row in rows]
    width = max(map(len, names), default=0)
    click.echo(f"{'layer':<{width}}  {'parameters':>11}  " + "  ".join(f"{told:>16}" for told, _ in LAYERS))
    for name, row in zip(names, rows, strict=True):
        cells = "  ".join(f"{_cell(row[key]):>16}" for _, key in LAYERS)
        click.echo(f"{name:<{width}}  {row['parameters']:>11,}  {cells}")


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def note_findings(run: Run) -> None:
    """What a diagnosis says of a training that has just ended, in a line each."""
    from danlu.diagnosis.diagnose import diagnose

    findings = diagnose(run)
    for found in findings.first:
        one = found.diagnosis
        log.say(f"diagnosis, {one.level} confidence, {one.disease}: {one.sentence}")
    if findings.found:
        log.say(f"  `danlu diagnose {run}` shows the evidence and what cures it")
    else:
        log.say(f"diagnosis: none of {len(findings.looked_for)} diseases was found")


@contextmanager
def note_failure() -> Iterator[None]:
    """When a training of this process fails on the way, say why before the error is told."""
    try:
        yield
    except (ModelError, DataError):
        from danlu.base.runs import LATEST, Run, runs_folder

        link = runs_folder() / LATEST
        run = Run(runs_folder() / os.readlink(link)) if link.is_symlink() else None
        if run is not None and run.status_file.exists():
            status = run.status()
            if status.get("state") == "failed" and status.get("process") == os.getpid() and run.steps():
                note_findings(run)
        raise
