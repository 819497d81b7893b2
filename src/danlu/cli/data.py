"""`danlu data list|get`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Known data sets, by name."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_sets(as_json: bool) -> None:
    """Names, what they are, and whether they are on this machine."""
    from danlu.sources.known import KNOWN_SETS, local_copy

    for name, known in KNOWN_SETS.items():
        place = "with scikit-learn" if not known.files else str(local_copy(name) or "")
        if as_json:
            row = {"name": name, "description": known.description, "license": known.license, "here": place or None}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            here = f"here: {place}" if place else f"`danlu data get {name}` fetches it"
            click.echo(f"{name:<14} {known.description}\n{'':<14} {known.license}; {here}")


@command.command("get")
@click.argument("name")
@click.option(
    "--from", "origin", type=click.Path(), help="A folder or file with the downloads, for machines without network."
)
def get_set(name: str, origin: str | None) -> None:
    """Fetch NAME, check it and keep it for all later runs."""
    from danlu.sources.known import get

    click.echo(str(get(name, Path(origin) if origin else None)))
