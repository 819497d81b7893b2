"""`danlu export RUN`."""

from __future__ import annotations

import click

from danlu.base.machine import suit_process_to_training


@click.command()
@click.argument("run")
@click.option("--out", type=click.Path(), help="Folder of the bundle; default: `bundle` in the run.")
def command(run: str, out: str | None) -> None:
    """Make a bundle of RUN: what is shipped, and answers without PyTorch.

    It is proven on held-out examples to answer as the run does; where it does not, nothing is written.

    \b
    danlu export runs/latest
    danlu predict runs/latest/bundle a.jpg
    """
    suit_process_to_training()
    from danlu.exporting.export import export

    click.echo(str(export(run, out=out)))
