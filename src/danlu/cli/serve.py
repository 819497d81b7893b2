"""`danlu serve BUNDLE…`."""

from __future__ import annotations

import sys

import click

from danlu.cli.inputs import shares_of


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE…")
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--workers", type=int, help="Processes that answer; default: as many as suit the model.")
@click.option("--api-key-file", type=click.Path(), help="File with the key that every request needs.")
@click.option("--insecure", is_flag=True, help="No key, although others can reach the address.")
@click.option("--split", metavar="SHARES", help="Of requests for each BUNDLE, such as 90/10.")
@click.option("--shadow", metavar="BUNDLE", help="Asked along with the others; it answers nobody.")
@click.option("--deadline", default=5.0, show_default=True, help="Seconds a request may take.")
@click.option("--drain-delay", default=0.5, show_default=True, help="Seconds after SIGTERM in which all is accepted.")
@click.option("--journal", default="journal", show_default=True, type=click.Path(), help="Folder; - for none.")
def command(bundles: tuple[str, ...], split: str | None, journal: str, **options: object) -> None:
    """Serve BUNDLE, or the bundle of a run, until Ctrl-C.

    \b
    danlu serve runs/latest
    danlu serve runs/a runs/b --split 90/10
    """
    from danlu.serving.serve import ServeSettings, serve

    settings = ServeSettings(
        split=shares_of(split, "--split") if split else (),
        journal=None if journal == "-" else journal,
        **options,  # type: ignore[arg-type]
    )
    sys.exit(serve(bundles, settings))
