"""Nearly equal content in two parts, such as a picture saved again or a text with other punctuation."""

from __future__ import annotations

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Finding, counted
from danlu.checks.leaked_copies import leaked_shares
from danlu.checks.near_copies import near_cases


def look(evidence: DataEvidence) -> Finding | None:
    """Never an error: nearness is a measurement with a threshold, and people judge pairs better.

    Examples count as leaked that are near to one of another part, directly or through others.
    """
    pairs = evidence.near_pairs
    groups = _joined(pairs)
    leaked = [group for group in groups if len(set(evidence.parts[group])) > 1]
    if not leaked:
        return None
    _, told = leaked_shares(evidence, np.concatenate(leaked))
    crossing = pairs[evidence.parts[pairs[:, 0]] != evidence.parts[pairs[:, 1]]]
    return Finding(
        "leaked_near_copies",
        "warning",
        f"{counted(len(crossing), 'pair')} of nearly equal examples in different parts: {told}",
        "look at them; what belongs together goes into one part, by `data.group_column` or by hand",
        near_cases(evidence, crossing),
    )


def _joined(pairs: np.ndarray) -> list[np.ndarray]:
    """Indices that pairs connect, one array a connected group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return []
    members, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    edges = coo_array((np.ones(len(pairs)), (places[:, 0], places[:, 1])), shape=(len(members), len(members)))
    _, group = connected_components(edges, directed=False)
    order = np.argsort(group, kind="stable")
    return np.split(members[order], np.flatnonzero(np.diff(group[order])) + 1)
