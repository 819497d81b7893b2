"""Metrics of a classifier from probabilities and true labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one class; `support`: its true examples, `answered`: how often it was the answer."""

    precision: float
    recall: float
    f1: float
    support: int
    answered: int = 0


def confusion_matrix(labels: np.ndarray, predicted_labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(classes, classes) counts: row is the truth, column the answer.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.bincount(labels * num_classes + predicted_labels, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_scores(confusion: np.ndarray) -> list[ClassScores]:
    """One row a class; a score whose denominator is 0 is 0, as in scikit-learn's default."""
    rows = []
    for index in range(len(confusion)):
        right = int(confusion[index, index])
        true, answered = int(confusion[index].sum()), int(confusion[:, index].sum())
        precision = right / answered if answered else 0.0
        recall = right / true if true else 0.0
        both = precision + recall
        rows.append(ClassScores(precision, recall, 2 * precision * recall / both if both else 0.0, true, answered))
    return rows


def averages(rows: list[ClassScores]) -> dict[str, ClassScores]:
    """`macro`: plain mean over classes that occur or are answered; `weighted`: by support."""
    total = sum(row.support for row in rows)
    used = [row for row in rows if row.support or row.answered] or rows

    def mean(kind: str, name: str) -> float:
        if kind == "macro":
            return float(sum(getattr(row, name) for row in used) / len(used))
        return float(sum(getattr(row, name) * row.support for row in rows) / max(1, total))

    return {
        kind: ClassScores(mean(kind, "precision"), mean(kind, "recall"), mean(kind, "f1"), total)
        for kind in ("macro", "weighted")
    }


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of −ln p(right class), p kept above the smallest float64 step from 0."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(chosen, np.finfo(np.float64).eps, 1)).mean())


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of examples whose label is among the k most probable classes; of equal ones the first come first, as in
    `argmax`, and NaN is never right."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = ~(probabilities <= own) | ((probabilities == own) & before)
    return float((ahead.sum(1) < k).mean())


def wilson_interval(right: int, total: int, z: float = Z95) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927).

    >>> [round(x, 4) for x in wilson_interval(90, 100)]
    [0.8256, 0.9448]
    """
    if total == 0:
        return (0.0, 1.0)
    share = right / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return (max(0.0, middle - half), min(1.0, middle + half))


def bootstrap_intervals(
    labels: np.ndarray, predicted_labels: np.ndarray, num_classes: int, *, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of macro precision, recall and F1.

    An example enters these scores only through its cell of the confusion matrix, so a resample of the examples is
    one multinomial draw of the matrix.
    """
    confusion = confusion_matrix(labels, predicted_labels, num_classes)
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(confusion.reshape(-1))
    counts = confusion.reshape(-1)[used]
    draws = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    values: dict[str, list[float]] = {"precision": [], "recall": [], "f1": []}
    for drawn in draws:
        flat = np.zeros(num_classes**2, dtype=np.int64)
        flat[used] = drawn
        macro = averages(class_scores(flat.reshape(num_classes, num_classes)))["macro"]
        for name, collected in values.items():
            collected.append(getattr(macro, name))
    return {
        f"macro_{name}": (float(np.quantile(collected, 0.025)), float(np.quantile(collected, 0.975)))
        for name, collected in values.items()
    }


def most_confused(confusion: np.ndarray, count: int = 10) -> list[tuple[int, int, int]]:
    """(true class, answered class, how many), most first, errors only."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = [(int(i // len(errors)), int(i % len(errors)), int(errors.reshape(-1)[i])) for i in order]
    return [pair for pair in pairs if pair[2] > 0]
