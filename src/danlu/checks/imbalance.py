"""Classes much rarer than others, which a model learns to overlook."""

from __future__ import annotations

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding

WORTH_A_NOTE = 1.5
WORTH_A_WARNING = 3.0
SEVERE = 20.0


def look(evidence: DataEvidence) -> Finding | None:
    """Of the train part; each class with the weight balanced weighting gives it, N / (classes × count)."""
    counts = evidence.counts("train")
    there = counts > 0
    if there.sum() < 2:
        return None
    ratio = counts[there].max() / counts[there].min()
    if ratio < WORTH_A_NOTE:
        return None
    rare, frequent = (evidence.classes[i] for i in (np.where(there, counts, counts.max()).argmin(), counts.argmax()))
    message = (
        f"`{frequent}` has {ratio:.1f} times the train examples of `{rare}`"
        f" ({counts.max():,} and {counts[there].min():,})"
    )
    weights = counts.sum() / (there.sum() * np.maximum(counts, 1))
    cases = tuple(
        Case((), f"class `{evidence.classes[i]}`: {counts[i]:,} train examples, balanced weight {weights[i]:.3g}")
        for i in np.argsort(counts, kind="stable")
        if there[i]
    )
    if ratio < WORTH_A_WARNING:
        return Finding("imbalance", "note", message, "nothing is needed; look at the recall of the rare class", cases)
    advice = (
        "compare with `training.class_weights=balanced` or `training.sampling=balanced`, by macro F1, not by accuracy"
    )
    if ratio >= SEVERE:
        advice += "; `training.loss=focal` and `training.sampling=undersample` are for ratios like this one"
    return Finding("imbalance", "warning", message, advice, cases)
