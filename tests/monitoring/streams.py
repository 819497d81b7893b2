"""Invented answers of a model, and journals of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base.journal import JournalWriter, keep_reference
from danlu.monitoring.rows import Row
from danlu.prediction.reference import FeatureSummary, Reference, numbers_of
from journals import json_lines

CLASSES = ("猫", "dog", "bird", "frog")
MODEL, VERSION = "pets@0123456789ab", "0123456789ab"
START = 1_763_464_000.0
PER_SECOND = 10.0
FEATURES = 16


class Stream:
    """Draws answers; `sure`, `mixture` and `shift` change how confident they are, their classes and their features."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        directions = np.random.default_rng(99)
        self._spread = directions.normal(size=(6, FEATURES))
        self.summary = FeatureSummary.learnt(self._features(2000, 0.0, directions))

    def draw(
        self, count: int, *, sure: float = 6.0, mixture: tuple[float, ...] = (1, 1, 1, 1), shift: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """(count, classes) probabilities and (count, features)."""
        shares = np.array(mixture) / sum(mixture)
        best = self.rng.choice(len(CLASSES), count, p=shares)
        evidence = np.ones((count, len(CLASSES)))
        evidence[np.arange(count), best] += sure
        drawn = self.rng.standard_gamma(evidence)
        return drawn / drawn.sum(1, keepdims=True), self._features(count, shift, self.rng)

    def reference(self, examples: int = 1000) -> Reference:
        return Reference.of(CLASSES, *self.draw(examples), self.summary)

    def rows(self, count: int, *, start: float = START, first: int = 0, **changes: Any) -> Iterator[Row]:
        """A row each tenth of a second."""
        probabilities, features = self.draw(count, **changes)
        numbers = numbers_of(probabilities, features, self.summary).tolist()
        for place, (values, best) in enumerate(zip(numbers, probabilities.argmax(1), strict=True), first):
            time = start + place / PER_SECOND
            yield Row(time, f"r{place}", MODEL, CLASSES[best], False, 2.0, tuple(values), False)

    def _features(self, count: int, shift: float, rng: np.random.Generator) -> np.ndarray:
        found: np.ndarray = (rng.normal(size=(count, 6)) + shift) @ self._spread + rng.normal(0, 0.1, (count, FEATURES))
        return found


def content_of(row: Row) -> dict[str, Any]:
    confidence, entropy, *features = row.numbers
    found = {"time": row.time, "id": row.id, "model": row.model, "class": row.label, "unknown": row.is_unknown}
    found |= {"confidence": confidence, "entropy": entropy, "ms": row.ms, "features": features}
    return found | ({"shadow": True} if row.is_shadow else {})


def write_journal(folder: Path, rows: Iterable[Row], reference: Reference | None = None) -> Path:
    writer = JournalWriter(folder)
    for row in rows:
        writer.add(json_lines([content_of(row)]))
        if len(writer._added) > 40_000:
            while writer._added:
                writer._flush()
    writer.close()
    assert writer.lost == 0
    if reference is not None:
        keep_reference(folder, MODEL, VERSION, reference.to_json())
    return folder
