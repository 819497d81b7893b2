"""Equal content in two parts: the answer to a test question was in the lesson."""

from __future__ import annotations

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted

# Leaked examples are answered by heart, so a measured accuracy can be too high by up to their share.
TOLERATED_SHARE = 0.01
HELD_OUT = ("validation", "test")


def look(evidence: DataEvidence) -> Finding | None:
    """An error where the leaked examples are 1 % of a part that measures, or more; else a warning."""
    groups = [group for group in evidence.groups_of_copies() if len(set(evidence.parts[group])) > 1]
    if not groups:
        return None
    worst, told = leaked_shares(evidence, np.concatenate(groups))
    cases = tuple(Case(tuple(evidence.keys[i] for i in group), evidence.names(group, "=")) for group in groups)
    return Finding(
        "leaked_copies",
        "error" if worst >= TOLERATED_SHARE else "warning",
        f"{counted(len(groups), 'content stands', 'contents stand')} in more than one part: {told}",
        "`data.leaks=drop` leaves the copies that are in train out; or remove them from the part they do not belong to",
        cases,
    )


def leaked_shares(evidence: DataEvidence, leaked: np.ndarray) -> tuple[float, str]:
    """The largest share of a held-out part that is leaked, and the sentence for all held-out parts."""
    shares: dict[str, float] = {}
    words: list[str] = []
    for part in HELD_OUT:
        size = int((evidence.parts == part).sum())
        count = int((evidence.parts[np.unique(leaked)] == part).sum())
        if count:
            shares[part] = count / size
            words.append(f"{count:,} of {size:,} {part} examples ({count / size:.2%})")
    return max(shares.values(), default=0.0), " and ".join(words)
