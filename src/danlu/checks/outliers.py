"""Examples unlike all others: blank pictures, texts without a letter, and what no pattern of the data explains."""

from __future__ import annotations

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted


def look(evidence: DataEvidence) -> Finding | None:
    if not evidence.unusual:
        return None
    count = len(evidence.unusual)
    return Finding(
        "outliers",
        "note",
        f"{counted(count, 'example is', 'examples are')} unlike the others",
        "look at them: some do not belong here, some are the rare cases a model needs",
        tuple(Case((evidence.keys[i],), f"{evidence.name(i)}: {reason}") for i, reason in evidence.unusual),
    )
