"""`danlu config show|init|schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from danlu.base.errors import ConfigError


@click.group()
def command() -> None:
    """Settings: what they are and where their values come from."""


@command.command("show")
@click.argument("settings", nargs=-1, metavar="[section.key=value]…")
@click.option("--config", type=click.Path(), help="YAML file with settings.")
@click.option("--run", "run_name", metavar="RUN", help="The settings a run was trained with, as they were chosen.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def show(settings: tuple[str, ...], config: str | None, run_name: str | None, as_json: bool) -> None:
    """Every effective value with its origin."""
    from danlu.base.config import read_config

    if run_name is not None:
        from danlu.base.runs import find_run

        click.echo(find_run(run_name).config_file.read_text(encoding="utf-8"), nl=False)
        return
    for key, value, origin in read_config(config, settings).rows():
        if as_json:
            click.echo(json.dumps({"key": key, "value": value, "origin": origin}, ensure_ascii=False))
        else:
            click.echo(f"{key:<28} {json.dumps(value, ensure_ascii=False):<28} {origin}")


@command.command("init")
@click.argument("file", default="danlu.yaml")
def init(file: str) -> None:
    """Write FILE with every setting, its default and its meaning."""
    from danlu.base.config import example_yaml
    from danlu.base.files import write_text

    if Path(file).exists():
        raise ConfigError(f"`{file}` exists already", hint="name another file: `danlu config init other.yaml`")
    write_text(Path(file), example_yaml())
    click.echo(file)


@command.command("schema")
def print_schema() -> None:
    """JSON schema of a settings file, for editors."""
    from danlu.base.config import schema

    click.echo(json.dumps(schema(), ensure_ascii=False, indent=2))
