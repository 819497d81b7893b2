"""What danlu says while it works: plain lines on stderr, so that stdout stays data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_silent = False


def say(text: str) -> None:
    """One line for the person watching."""
    if not _silent:
        print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """A line the person should act on; it is marked by a word, not by colour alone."""
    say(f"warning: {text}")


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
