"""Examples that cannot be read."""

from __future__ import annotations

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Finding, counted

SHOWN = 3


def look(evidence: DataEvidence) -> Finding | None:
    """An error unless they are to be left out, which is then counted."""
    broken = evidence.unreadable
    if not broken:
        return None
    first = ", ".join(f"`{case.keys[0]}` ({case.note})" for case in broken[:SHOWN])
    more = f" and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
    total = len(evidence.keys) + len(broken)
    message = f"{len(broken):,} of {counted(total, 'example')} cannot be read: {first}{more}"
    if evidence.skips_unreadable:
        return Finding("unreadable", "warning", message, "they are left out; repair them to use them", broken)
    advice = "repair or remove them, or leave them out with `data.unreadable=skip`"
    return Finding("unreadable", "error", message, advice, broken)
