"""Which source a word or a path is, and the examples behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.base.errors import ConfigError, DataError
from danlu.base.registry import nearest_names
from danlu.sources import SOURCES
from danlu.sources.examples import Examples
from danlu.sources.known import KNOWN_SETS

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


def recognize(data: str | Path) -> str:
    """The name of the source that reads `data`: a path, or the name of a known data set.

    >>> recognize("digits")
    'known'
    """
    path = Path(data)
    if not os.path.exists(path):  # unlike Path.exists, also for a name that is too long
        if str(data) in KNOWN_SETS:
            return "known"
        raise ConfigError(
            f"`{data}` is neither a file, a folder nor a known data set; {nearest_names(str(data), KNOWN_SETS)}",
            hint="`danlu data list` shows the known data sets",
        )
    if path.is_dir():
        try:
            names = os.listdir(path)
        except OSError as error:
            raise DataError(f"cannot read folder `{path}`: {error.strerror}") from error
        if any("-idx3-ubyte" in name or ".idx3-ubyte" in name for name in names):
            return "idx"
        if any(name.startswith("data_batch") and name.endswith(".bin") for name in names):
            return "cifar"
        return "folder"
    if not path.is_file():
        raise DataError(f"`{data}` is not a regular file or folder")
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return "table"
    if suffix == ".npz":
        return "npz"
    raise DataError(
        f"`{data}` is of no kind danlu reads",
        hint="a folder of class folders, a .csv, .tsv or .jsonl table, a .npz, or IDX files; "
        "`data.source=table` reads a table with another ending",
    )


def read_examples(data: str | Path, settings: DataSettings) -> Examples:
    """All labelled examples of a path or known data set; what could not be read is in `problems`."""
    source = recognize(data) if settings.source == "auto" else settings.source
    examples: Examples = SOURCES.load(source)(data, settings)
    return examples
