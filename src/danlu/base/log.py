"""What danlu says while it works: plain lines on stderr, so that stdout stays data."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unicodedata import east_asian_width

_silent = False
_name = ""


def name_process(name: str) -> None:
    """Let every line begin with this, where several processes talk to the same person."""
    global _name
    _name = f"{name}: "


def say(text: str) -> None:
    """One line for the person watching."""
    if not _silent:
        print(f"{_name}{text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """A line the person should act on; it is marked by a word, not by colour alone."""
    say(f"warning: {text}")


def error(error: Exception) -> None:
    """What ends a process, also where nothing else is said."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)


def failure(where: str, error: Exception) -> None:
    """A mistake of danlu's that ends nothing, with its traceback, also where nothing else is said."""
    import traceback

    told = "".join(traceback.format_exception(error))
    print(f"internal error ({where}):\n{told}", file=sys.stderr, flush=True)


def pasted(word: str) -> str:
    """A word as a shell reads it back, quoted only where it has to be: names in any language stay as they are.

    >>> pasted("照片"), pasted("my photos"), pasted("data.split=[0.6,0.2,0.2]")
    ('照片', "'my photos'", "'data.split=[0.6,0.2,0.2]'")
    """
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else shlex.quote(word)


def display_width(text: str) -> int:
    """Columns a text takes on a terminal, where Chinese signs take two.

    >>> display_width("a丹")
    3
    """
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def pad(text: str, width: int) -> str:
    """The text with blanks up to `width` columns, cut where it is longer."""
    while display_width(text) > width:
        text = text[:-2] + "…"
    return text + " " * (width - display_width(text))


@contextmanager
def silence() -> Iterator[None]:
    """Say nothing inside the block.

    >>> with silence():
    ...     say("not shown")
    """
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def is_talking() -> bool:
    return not _silent


def is_interactive() -> bool:
    """True when a person watches stderr on a terminal and nothing is silenced."""
    return not _silent and sys.stderr.isatty()
