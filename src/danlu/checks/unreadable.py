"""Examples that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Finding, counted

SHOWN = 3
ADVICE = "repair or remove them, or leave them out with `data.unreadable=skip`"


def look(evidence: DataEvidence) -> Finding | None:
    """An error unless they are to be left out, which is then counted."""
    broken = evidence.unreadable
    if not broken:
        return None
    message = told([(case.keys[0], case.note) for case in broken], len(evidence.keys) + len(broken))
    if evidence.skips_unreadable:
        return Finding("unreadable", "warning", message, "they are left out; repair them to use them", broken)
    return Finding("unreadable", "error", message, ADVICE, broken)


def told(broken: Sequence[tuple[str, str]], total: int, place: str = "") -> str:
    """The sentence for examples, each with key and reason, of `total` that cannot be read.

    >>> told([("a.png", "is empty")], 9)
    '1 of 9 examples cannot be read: `a.png` (is empty)'
    """
    first = ", ".join(f"`{key}` ({reason})" for key, reason in broken[:SHOWN])
    more = f" and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
    return f"{len(broken):,} of {counted(total, 'example')}{place} cannot be read: {first}{more}"
