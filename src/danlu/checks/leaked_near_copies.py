"""Nearly equal content in two parts, such as a picture saved again or a text with other punctuation."""

from __future__ import annotations

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Finding, counted
from danlu.checks.leaked_copies import leaked_shares
from danlu.checks.near_copies import near_cases


def look(evidence: DataEvidence) -> Finding | None:
    """Never an error: nearness is a measurement with a threshold, and people judge pairs better."""
    pairs = evidence.near_pairs
    pairs = pairs[evidence.parts[pairs[:, 0]] != evidence.parts[pairs[:, 1]]]
    if not len(pairs):
        return None
    _, told = leaked_shares(evidence, pairs.reshape(-1))
    return Finding(
        "leaked_near_copies",
        "warning",
        f"{counted(len(pairs), 'pair')} of nearly equal examples in different parts: {told}",
        "look at them; what belongs together goes into one part, by `data.group_column` or by hand",
        near_cases(evidence, pairs),
    )
