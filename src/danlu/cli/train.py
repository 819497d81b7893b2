"""`danlu train DATA`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from danlu.base import log
from danlu.base.errors import ConfigError
from danlu.base.machine import suit_process_to_training

if TYPE_CHECKING:
    from danlu.base.runs import Run


@click.command()
@click.argument("data", required=False)
@click.argument("settings", nargs=-1, metavar="[section.key=value]…")
@click.option("--config", type=click.Path(), help="YAML file with settings.")
@click.option("--name", help="Name of the run; default: time, data and model.")
@click.option("--resume", metavar="RUN", help="Go on with an interrupted run from its last checkpoint, bit for bit.")
@click.option("--inexact", is_flag=True, help="With --resume: go on although the result will not be the same bits.")
@click.option("--no-bundle", is_flag=True, help="End without the bundle, which `danlu export RUN` makes too.")
@click.option("--processes", type=click.IntRange(min=1), default=1, help="Train with this many on this machine.")
def command(
    data: str | None,
    settings: tuple[str, ...],
    config: str | None,
    name: str | None,
    resume: str | None,
    inexact: bool,
    no_bundle: bool,
    processes: int,
) -> None:
    """Train on DATA: a folder of class folders, a .csv, .tsv, .jsonl or .npz file, or a known data set.

    The run is trained, evaluated on its untouched test part and written below runs/, with a bundle that answers
    without PyTorch.

    \b
    danlu train photos/
    danlu train reviews.csv model.name=bilstm
    danlu train fashion-mnist model.name=mlp training.epochs=5
    danlu train photos/ --processes 2
    danlu train --resume runs/latest
    """
    suit_process_to_training()
    if "RANK" in os.environ:  # PyTorch's own notes would stand once for each process
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from danlu.cli.diagnose import note_failure
    from danlu.training.train import resume as resume_run
    from danlu.training.train import train

    if resume is not None:
        if data is not None or config is not None or name is not None:
            raise ConfigError(
                "`--resume RUN` goes on with the run's own data and settings", hint="give nothing else with it"
            )
        with note_failure():
            run = resume_run(resume, inexact=inexact, processes=processes)
    elif inexact:
        raise ConfigError("`--inexact` is about going on with a run", hint="`danlu train --resume RUN --inexact`")
    elif data is None:
        raise ConfigError("no DATA given", hint="`danlu train photos/`, or a name from `danlu data list`")
    elif "=" in data and "." in data.partition("=")[0]:
        raise ConfigError(f"`{data}` is a setting; DATA comes first", hint=f"`danlu train DATA {data}`")
    else:
        with note_failure():
            run = train(data, config=config, words=settings, name=name, processes=processes)
    if processes > 1 or os.environ.get("RANK", "0") != "0":
        return  # the first of the processes has told the rest
    finish(run, with_bundle=not no_bundle)


def finish(run: Run, *, with_bundle: bool) -> None:
    """What follows a training: its test part, once, its diagnosis, its report, and a bundle."""
    from danlu.cli.diagnose import note_findings
    from danlu.cli.evaluate import print_evaluation
    from danlu.evaluation.evaluate import evaluate
    from danlu.exporting.export import export
    from danlu.reporting.report import report

    if run.status()["parts"].get("test") and run.evaluation() is None:
        print_evaluation(evaluate(run))
    note_findings(run)
    log.say(f"report: {report(run)}")
    if with_bundle:
        export(run)
    click.echo(str(run))
