"""Answers to labelled examples as a table on disk, so that runs can be compared without asking the models again."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from danlu.base.errors import ModelError
from danlu.base.files import write_csv

UNKNOWN = "unknown"
HEADER = ["key", "truth", "answer", "confidence", "probability_of_truth"]


@dataclass(frozen=True)
class Answers:
    """What a model said of examples: a row each, `confidence` and `probability_of_truth` calibrated."""

    keys: tuple[str, ...]
    truth: tuple[str, ...]
    answer: tuple[str, ...]
    confidence: np.ndarray
    probability_of_truth: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def right(self) -> np.ndarray:
        """(examples,) bool."""
        return np.array([truth == answer for truth, answer in zip(self.truth, self.answer, strict=True)], dtype=bool)

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], keys: Sequence[str]) -> Answers:
        """From (examples, classes) probabilities and (examples,) labels."""
        said = probabilities.argmax(1)
        rows = np.arange(len(labels))
        return cls(
            tuple(keys),
            tuple(classes[label] for label in labels),
            tuple(classes[label] for label in said),
            probabilities[rows, said],
            probabilities[rows, labels],
        )

    def write(self, path: Path) -> None:
        numbers = (self.confidence.tolist(), self.probability_of_truth.tolist())
        write_csv(path, HEADER, zip(self.keys, self.truth, self.answer, *numbers, strict=True))

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Raises `ModelError` when the file is damaged or missing."""
        try:
            with open(path, encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            if header != HEADER:
                raise ValueError(f"its first line is not `{','.join(HEADER)}`")
            if any(len(row) != len(HEADER) for row in rows):
                raise ValueError(f"a line does not have {len(HEADER)} columns")
            keys, truth, answer, *shares = zip(*rows, strict=True) if rows else ((),) * 5
            confidence, own = (np.array(column, dtype=float) for column in shares)
            if not all(((column >= 0) & (column <= 1)).all() for column in (confidence, own)):
                raise ValueError("a probability is not from 0 to 1")
            return cls(keys, truth, answer, confidence, own)
        except (OSError, ValueError, csv.Error) as error:
            raise ModelError(
                f"the answers `{path}` cannot be read: {error}", hint=f"`danlu evaluate {path.parent}` writes them anew"
            ) from error
