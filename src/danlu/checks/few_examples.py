"""Too few examples to learn from, or to measure on."""

from __future__ import annotations

import math

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted, listed

LEARNT_FROM = 5
MEASURED_ON = 30
TYPICAL_ACCURACY = 0.9
Z95 = 1.96


def look(evidence: DataEvidence) -> Finding | None:
    """A warning for a held-out part of fewer than 30 examples or a class of fewer than 5 train examples."""
    told: list[str] = []
    for part in ("validation", "test"):
        count = int((evidence.parts == part).sum())
        if 0 < count < MEASURED_ON:
            width = Z95 * math.sqrt(TYPICAL_ACCURACY * (1 - TYPICAL_ACCURACY) / count)
            told.append(f"{counted(count, f'{part} example')}: an accuracy of 90% there is sure to ±{width:.0%} only")
    counts = evidence.counts("train")
    small = np.flatnonzero((counts > 0) & (counts < LEARNT_FROM))
    if len(small):
        names = listed(evidence.classes[i] for i in small)
        told.append(f"{counted(len(small), 'class has', 'classes have')} fewer than 5 train examples: {names}")
    if not told:
        return None
    cases = tuple(Case((), f"class `{evidence.classes[i]}`: {counted(int(counts[i]), 'train example')}") for i in small)
    advice = "add examples before believing a figure; until then look at the intervals, not at the values"
    return Finding("few_examples", "warning", "; ".join(told), advice, cases)
