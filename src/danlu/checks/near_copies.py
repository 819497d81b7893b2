"""Nearly equal content within a part."""

from __future__ import annotations

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted

MOST_NEIGHBOURS = 8  # of an example that the search looks at in one order


def look(evidence: DataEvidence) -> Finding | None:
    """A note; how many pairs have different labels is said, since one of the two is then likely wrong."""
    pairs = evidence.near_pairs
    pairs = pairs[evidence.parts[pairs[:, 0]] == evidence.parts[pairs[:, 1]]]
    if not len(pairs):
        return None
    return Finding(
        "near_copies",
        "note",
        f"{pairs_told(pairs)} of nearly equal examples in one part{_contradictions(evidence, pairs)}",
        "look at those with different labels first",
        near_cases(evidence, pairs),
    )


def pairs_told(pairs: np.ndarray) -> str:
    """How many pairs: at least so many, where examples have so many neighbours that the search passes some over."""
    told = counted(len(pairs), "pair")
    return f"at least {told}" if np.bincount(pairs.reshape(-1)).max(initial=0) >= MOST_NEIGHBOURS else told


def near_cases(evidence: DataEvidence, pairs: np.ndarray) -> tuple[Case, ...]:
    """One case a pair; pairs with different labels come first."""
    differ = evidence.labels[pairs[:, 0]] != evidence.labels[pairs[:, 1]]
    return tuple(
        Case(
            (evidence.keys[a], evidence.keys[b]),
            f"{evidence.name(a)} ≈ {evidence.name(b)}" + (" (labels differ)" if other else ""),
        )
        for (a, b), other in sorted(zip(pairs.tolist(), differ.tolist(), strict=True), key=lambda pair: not pair[1])
    )


def _contradictions(evidence: DataEvidence, pairs: np.ndarray) -> str:
    count = int((evidence.labels[pairs[:, 0]] != evidence.labels[pairs[:, 1]]).sum())
    return f", {count:,} with different labels" if count else ""


def connected(pairs: np.ndarray, number: int) -> np.ndarray:
    """(number,) the group of each index, where (pairs, 2) indices connect two of one group.

    >>> connected(np.array([[0, 2], [2, 3]]), 4).tolist()
    [0, 1, 0, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(number, number))
    groups: np.ndarray = connected_components(edges, directed=False)[1]
    return groups
