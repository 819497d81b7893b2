"""Equal content with different labels: no model can be right about both."""

from __future__ import annotations

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted


def look(evidence: DataEvidence) -> Finding | None:
    groups = [group for group in evidence.groups_of_copies() if len(set(evidence.labels[group].tolist())) > 1]
    if not groups:
        return None
    count = sum(len(group) for group in groups)
    return Finding(
        "conflicting_labels",
        "warning",
        f"{counted(len(groups), 'content has', 'contents have')} different labels ({counted(count, 'example')})",
        "give each content one label, or remove it",
        tuple(Case(tuple(evidence.keys[i] for i in group), evidence.names(group, "≠")) for group in groups),
    )
