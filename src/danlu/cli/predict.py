"""`danlu predict MODEL INPUT…`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from danlu.base.errors import ConfigError, DataError


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, metavar="INPUT…")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(model: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Answer for each INPUT with the run MODEL.

    Image models take files and folders. Text models take texts, .txt files (a text a line) and tables with a text
    column. `-` reads standard input: a file name or a text a line.

    \b
    danlu predict runs/latest a.jpg b.png photos/
    danlu predict runs/latest "很快，好吃" --json
    """
    from danlu.prediction.predictor import load

    if not inputs:
        raise ConfigError("no INPUT given", hint="`-` reads standard input")
    predictor = load(model)
    expand = _images if predictor.kind == "images" else _texts
    failed = total = 0
    for answer in predictor.stream(expand(inputs)):
        total += 1
        failed += answer.error is not None
        if as_json:
            click.echo(json.dumps(answer.to_json(), ensure_ascii=False))
        elif answer.error is not None:
            click.echo(f"error\t-\t{_line(answer.input)}: {answer.error}")
        else:
            click.echo(f"{answer.label}\t{answer.confidence:.2%}\t{_line(answer.input)}")
    if failed:
        raise DataError(f"{failed:,} of {total:,} inputs could not be read", hint="the lines marked `error` say why")


def _images(inputs: tuple[str, ...]) -> Iterator[str]:
    from danlu.inputs.images import SUFFIXES

    for item in inputs:
        if item == "-":
            yield from _lines_of_stdin()
        elif Path(item).is_dir():
            found = sorted(p for p in Path(item).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not found:
                raise DataError(f"the folder `{item}` holds no image", hint="read are " + " ".join(SUFFIXES))
            yield from map(str, found)
        else:
            yield item


def _texts(inputs: tuple[str, ...]) -> Iterator[str]:
    from danlu.base.settings import DataSettings
    from danlu.sources.table import text_column_of

    for item in inputs:
        suffix = Path(item).suffix.lower() if len(item) < 300 else ""
        if item == "-":
            yield from _lines_of_stdin()
        elif suffix in (".csv", ".tsv", ".jsonl", ".ndjson") and Path(item).is_file():
            yield from text_column_of(item, DataSettings())  # type: ignore[call-arg]
        elif suffix == ".txt" and Path(item).is_file():
            yield from Path(item).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        else:
            yield item


def _lines_of_stdin() -> Iterator[str]:
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            yield text


def _line(text: str) -> str:
    """One line of at most 80 signs, whatever stands in the input."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:79] + "…"
