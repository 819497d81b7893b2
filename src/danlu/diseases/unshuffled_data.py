"""Batches that hold one class after the other: each step unlearns the last one."""

from __future__ import annotations

from collections import Counter

import numpy as np

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

STRONG, WEAK = 0.4, 0.2
FEWEST, ENOUGH = 8, 32  # examples of a batch, and of all that were looked at


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """The chance that two examples of a batch have one class, against that of any two examples."""
    batches = [row["labels"] for row in evidence.watched if row.get("labels")]
    batches = [batch for batch in batches if sum(batch.values()) >= FEWEST]
    if not batches:
        return None
    together: Counter[str] = Counter()
    for batch in batches:
        together.update(batch)
    counts = evidence.counts.get("train")
    if counts:
        overall = _alike(np.array(counts, dtype=float))
    elif evidence.validation is not None:
        overall = _alike(np.bincount(evidence.validation.labels).astype(float))
    else:
        overall = _alike(np.array(list(together.values()), dtype=float))
    within = float(np.mean([_alike(np.array(list(batch.values()), dtype=float)) for batch in batches]))
    if overall >= 1:
        return None
    excess = (within - overall) / (1 - overall)
    if excess < WEAK:
        return None
    seen = sum(together.values())
    most = float(np.mean([max(batch.values()) / sum(batch.values()) for batch in batches]))
    return Diagnosis(
        "unshuffled_data",
        f"batches hold mostly one class: two examples of a batch are of one class in {percent(within)} of cases,"
        f" two of the data in {percent(overall)}",
        (
            ("share of the most frequent class of a batch", percent(most)),
            ("batches looked at", f"{len(batches):,}"),
        ),
        0.95 if excess >= STRONG and seen >= ENOUGH else 0.6,
        Cure("shuffle: `DataLoader(…, shuffle=True)`; danlu's own batches always are"),
    )


def _alike(counts: np.ndarray) -> float:
    """The chance that two different ones of these are of one class."""
    total = counts.sum()
    return float((counts * (counts - 1)).sum() / max(1.0, total * (total - 1)))
