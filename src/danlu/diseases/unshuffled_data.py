"""Batches that hold one class after the other: each step unlearns the last one."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

STRONG, WEAK = 0.4, 0.1
ENOUGH = 32  # examples that were looked at
FEW = 3  # batches that hardly stand for the whole data


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """The chance that two examples of a batch have one class, against that of any two examples.

    Above it by more than chance would have it in batches of this size, at four standard errors. Of the user's own
    batches alone: danlu shuffles its own, and those of texts hold like lengths, which go with classes.
    """
    if not evidence.is_own:
        return None
    batches = [row["labels"] for row in evidence.watched if row.get("labels")]
    batches = [batch for batch in batches if sum(batch.values()) > 1]
    if not batches:
        return None
    together: Counter[str] = Counter()
    for batch in batches:
        together.update(batch)
    seen, counts = sum(together.values()), evidence.counts.get("train")
    if counts:
        overall = _alike(np.array(counts, dtype=float))
    else:  # a sampler may draw classes otherwise than validation has them, and one batch is not the data
        others = [] if evidence.validation is None else [np.bincount(evidence.validation.labels).astype(float)]
        if len(batches) >= FEW or not others:
            others.append(np.array(list(together.values()), dtype=float))
        overall = max(_alike(each) for each in others)
    within = float(np.mean([_alike(np.array(list(batch.values()), dtype=float)) for batch in batches]))
    if overall >= 1:
        return None
    excess = (within - overall) / (1 - overall)
    size = seen / len(batches)
    error = math.sqrt(2 * overall / (1 - overall) / len(batches)) / size
    if excess < max(WEAK, 4 * error) or seen < ENOUGH:
        return None
    most = float(np.mean([max(batch.values()) / sum(batch.values()) for batch in batches]))
    return Diagnosis(
        "unshuffled_data",
        f"batches hold too few classes at a time: two examples of a batch are of one class in {percent(within)} of"
        f" cases, two of the data in {percent(overall)}",
        (
            ("share of the most frequent class of a batch", percent(most)),
            ("batches looked at", f"{len(batches):,}"),
        ),
        0.95 if excess >= STRONG and (counts or len(batches) >= FEW) else 0.6,
        Cure("shuffle: `DataLoader(…, shuffle=True)`"),
    )


def _alike(counts: np.ndarray) -> float:
    """The chance that two different ones of these are of one class."""
    total = counts.sum()
    return float((counts * (counts - 1)).sum() / max(1.0, total * (total - 1)))
