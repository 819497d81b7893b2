"""`danlu export RUN`."""

from __future__ import annotations

import click

from danlu.base.machine import suit_process_to_training
from danlu.cli.inputs import share_of


@click.command()
@click.argument("run")
@click.option("--format", "format_", default="onnx", help="What to write; `danlu list formats` shows all.")
@click.option("--out", type=click.Path(), help="Folder to write; default: `bundle` or `exports/FORMAT` in the run.")
@click.option("--max-drop", metavar="SHARE", help="Accuracy that int8 may lose; default 0.5%.")
def command(run: str, format_: str, out: str | None, max_drop: str | None) -> None:
    """Make a bundle of RUN, which answers without PyTorch, or files for another runtime.

    What is written is proven on held-out examples to answer as the run does; where it does not, nothing is written.

    \b
    danlu export runs/latest
    danlu export runs/latest --format int8
    danlu predict runs/latest/bundle a.jpg
    """
    suit_process_to_training()
    from danlu.exporting.export import export

    drop = None if max_drop is None else share_of(max_drop, "--max-drop")
    click.echo(str(export(run, format_, out=out, max_drop=drop)))
