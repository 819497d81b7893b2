"""What commands take on the command line: files, folders, tables and texts, one after the other, and shares."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from danlu.base import log
from danlu.base.errors import ConfigError, DataError

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
READ = (".txt", *TABLES)
LONGEST_NAME = 300


def image_inputs(inputs: tuple[str, ...]) -> Iterator[str]:
    """The files named, those below the folders named, and the lines of standard input for `-`."""
    from danlu.inputs.images import SUFFIXES

    for item in inputs:
        if item == "-":
            yield from (line for line in _lines_of_stdin() if line)
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
    from danlu.sources.table import text_column_of, text_lines_of

    for item in inputs:
        suffix = Path(item).suffix.lower() if len(item) < LONGEST_NAME else ""
        if item == "-":
            yield from _lines_of_stdin()
        elif suffix in TABLES and Path(item).is_file():
            yield from text_column_of(item, DataSettings())  # type: ignore[call-arg]
        elif suffix == ".txt" and Path(item).is_file():
            yield from text_lines_of(item)
        elif len(item) < LONGEST_NAME and os.path.exists(item):
            what = "a folder" if os.path.isdir(item) else "a file of another kind"
            raise ConfigError(f"`{item}` is {what}, not a text", hint=f"read are {' '.join(READ)}, and `-`")
        elif suffix in READ and len(item.split()) == 1:
            raise DataError(f"no file `{item}`", hint="a text that ends so can be given through `-`")
        else:
            yield item


def _lines_of_stdin() -> Iterator[str]:
    """UTF-8 or GB18030, told line by line."""
    is_told = False
    for number, line in enumerate(sys.stdin.buffer):
        if b"\0" in line:
            raise DataError(
                f"standard input holds no text (a NUL at line {number + 1})",
                hint="a line is a text, or the name of an image file",
            )
        try:
            text = line.decode("utf-8-sig" if number == 0 else "utf-8")
        except UnicodeDecodeError:
            try:
                text = line.decode("gb18030")
            except UnicodeDecodeError:
                raise DataError(f"standard input is neither UTF-8 nor GB18030 at line {number + 1}") from None
            if not is_told:
                log.say(f"standard input is read as GB18030 from line {number + 1} on, where it is not UTF-8")
                is_told = True
        yield text.rstrip("\r\n")


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
        plain = unicodedata.normalize("NFKC", text).strip()  # a Chinese keyboard types ２％
        return float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"`{option} {text}` is no share", hint="such as 0.02 or 2%") from None


def shares_of(text: str, option: str) -> tuple[float, ...]:
    """Several shares, of which only the ratio counts. Raises `ConfigError`.

    >>> shares_of("90/10", "--split")
    (90.0, 10.0)
    """
    try:
        return tuple(float(part) for part in unicodedata.normalize("NFKC", text).split("/"))
    except ValueError:
        raise ConfigError(f"`{option} {text}` is no list of shares", hint="such as 90/10") from None
