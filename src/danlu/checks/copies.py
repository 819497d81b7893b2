"""Equal content within a part: examples that count more than once."""

from __future__ import annotations

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted

WORTH_A_WARNING = 0.05


def look(evidence: DataEvidence) -> Finding | None:
    """A warning where more than 5 % of the examples are repetitions of another one; else a note."""
    groups = [
        group[evidence.parts[group] == part]
        for group in evidence.groups_of_copies()
        for part in sorted(set(evidence.parts[group].tolist()))
    ]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return None
    extra = sum(len(group) - 1 for group in groups)
    return Finding(
        "copies",
        "warning" if extra > WORTH_A_WARNING * len(evidence.keys) else "note",
        f"{counted(extra, 'example repeats', 'examples repeat')} another one of the same part exactly"
        f" ({counted(len(groups), 'content')})",
        "equal examples weigh more than others; remove the repetitions unless they are meant",
        tuple(Case(tuple(evidence.keys[i] for i in group), evidence.names(group, "=")) for group in groups),
    )
