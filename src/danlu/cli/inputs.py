"""What commands take on the command line: files, folders, tables and texts, one after the other, and shares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from danlu.base.errors import ConfigError, DataError


def image_inputs(inputs: tuple[str, ...]) -> Iterator[str]:
    """The files named, those below the folders named, and the lines of standard input for `-`."""
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


def text_inputs(inputs: tuple[str, ...]) -> Iterator[str]:
    """The texts given, those in the files and tables named, and the lines of standard input for `-`."""
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


def one_line(text: str) -> str:
    """One line of at most 80 signs, whatever stands in the input."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:79] + "…"


def share_of(text: str, option: str) -> float:
    """A share as people write it. Raises `ConfigError`.

    >>> share_of("2%", "--max-error"), share_of("0.02", "--max-error")
    (0.02, 0.02)
    """
    try:
        return float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"`{option} {text}` is no share", hint="such as 0.02 or 2%") from None
