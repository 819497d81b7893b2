"""A part that should have examples and has none."""

from __future__ import annotations

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Finding, counted


def look(evidence: DataEvidence) -> Finding | None:
    """An error: without train nothing is learnt, without validation nothing chosen, without test nothing known."""
    missing = [part for part in evidence.expected if part not in evidence.part_names()]
    if not missing:
        return None
    different = len(set(evidence.copies.tolist()))
    return Finding(
        "missing_part",
        "error",
        f"no example is left for {' and '.join(missing)}: {counted(different, 'different content')} in"
        f" {counted(len(evidence.keys), 'example')}, and those of equal content or of one group stay together",
        "add different examples or groups, or leave a part out with `data.split`, such as [0.8,0.2,0]",
    )
