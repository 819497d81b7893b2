"""Nearly equal content in two parts, such as a picture saved again or a text with other punctuation."""

from __future__ import annotations

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Finding
from danlu.checks.leaked_copies import leaked_shares
from danlu.checks.near_copies import connected, near_cases, pairs_told


def look(evidence: DataEvidence) -> Finding | None:
    """Never an error: nearness is a measurement with a threshold, and people judge pairs better.

    Examples count as leaked that are near to one of another part, directly or through others.
    """
    pairs = evidence.near_pairs
    if not len(pairs):
        return None
    members = np.unique(pairs)
    group = connected(np.searchsorted(members, pairs), len(members))
    part = np.unique(evidence.parts[members], return_inverse=True)[1]
    group_and_part = np.unique(np.stack([group, part], axis=1), axis=0)
    in_several = np.bincount(group_and_part[:, 0]) > 1
    leaked = members[in_several[group]]
    if not len(leaked):
        return None
    _, told = leaked_shares(evidence, leaked)
    crossing = pairs[evidence.parts[pairs[:, 0]] != evidence.parts[pairs[:, 1]]]
    return Finding(
        "leaked_near_copies",
        "warning",
        f"{pairs_told(crossing)} of nearly equal examples in different parts: {told}",
        "look at them; what belongs together goes into one part, by `data.group_column` or by hand",
        near_cases(evidence, crossing),
    )
