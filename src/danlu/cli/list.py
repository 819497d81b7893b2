"""`danlu list WORD`."""

from __future__ import annotations

import json

import click

from danlu.base.errors import ConfigError
from danlu.base.registry import Registry, nearest_names


def tables() -> dict[str, Registry]:
    """Every registry by its plural; those of training only where its packages are installed."""
    from danlu.base.extras import missing_packages
    from danlu.checks import CHECKS
    from danlu.diseases import DISEASES
    from danlu.exporting import FORMATS
    from danlu.models import MODELS
    from danlu.sources import SOURCES

    found = [SOURCES, CHECKS, DISEASES, MODELS, FORMATS]
    if not missing_packages("train"):
        from danlu.training import LOSSES, OPTIMIZERS, SCHEDULES

        found += [LOSSES, OPTIMIZERS, SCHEDULES]
    return {table.plural: table for table in found}


@click.command()
@click.argument("word", required=False)
@click.option("--options", is_flag=True, help="With models: the options of each and their defaults.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(word: str | None, options: bool, as_json: bool) -> None:
    """What can be named: models, sources, checks, diseases, formats, losses, optimizers, schedules.

    Without WORD: all of them.
    """
    known = tables()
    if word is not None and word not in known:
        raise ConfigError(f"nothing called {word!r} to list; {nearest_names(word, known)}")
    for plural, table in known.items():
        if word not in (None, plural):
            continue
        if word is None and not as_json:
            click.echo(f"{plural}:")
        for name, member in table:
            if as_json:
                row = {"table": plural, "name": name, "description": member.description, "kinds": list(member.kinds)}
                click.echo(json.dumps(row, ensure_ascii=False))
                continue
            kinds = f" ({', '.join(member.kinds)})" if member.kinds else ""
            click.echo(f"  {name:<18} {member.description}{kinds}")
            if options and plural == "models":
                for option, info in table.load(name).Options.model_fields.items():
                    click.echo(f"  {'':<18}   model.{option}={info.default}")
