"""`danlu report RUN`."""

from __future__ import annotations

import click


@click.command()
@click.argument("run")
@click.option("--png", is_flag=True, help="Also write each chart as a PNG file into the run's folder `charts`.")
def command(run: str, png: bool) -> None:
    """Write report.html of RUN from what is in its folder; failed runs have one too.

    \b
    danlu report runs/latest
    danlu report runs/latest --png
    """
    from danlu.reporting.report import report

    click.echo(str(report(run, png=png)))
