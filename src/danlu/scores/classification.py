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
    return float(log_losses(probabilities, labels).mean())


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(examples,) −ln p(right class), as `log_loss` takes the mean of."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    losses: np.ndarray = -np.log(np.clip(chosen, np.finfo(np.float64).eps, 1))
    return losses


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


@dataclass(frozen=True)
class Intervals:
    """95 % percentile intervals (low, high). `averages`: `macro_f1` and so on; `f1`: a row a class."""

    averages: dict[str, tuple[float, float]]
    f1: list[tuple[float, float]]


def bootstrap_intervals(confusion: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Intervals:
    """Intervals of scores that are no plain shares (Efron, 1979).

    An example enters these scores only through its cell of the confusion matrix, so a resample of the examples is
    one multinomial draw of the matrix.
    """
    num_classes = len(confusion)
    flat = confusion.reshape(-1)
    used = np.flatnonzero(flat)
    truth, answer = used // num_classes, used % num_classes
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(flat.sum(), flat[used] / flat.sum(), size=resamples)
    true, answered = _summed(draws, truth, num_classes), _summed(draws, answer, num_classes)
    on_diagonal = np.flatnonzero(truth == answer)
    right = np.zeros_like(true)
    right[:, truth[on_diagonal]] = draws[:, on_diagonal]
    scores = {
        "precision": _share(right, answered),
        "recall": _share(right, true),
        "f1": _share(2 * right, true + answered),
    }
    used_classes = np.maximum((true + answered > 0).sum(1), 1)
    averages: dict[str, tuple[float, float]] = {}
    for name, values in scores.items():
        averages[f"macro_{name}"] = _middle_95(values.sum(1) / used_classes)
        averages[f"weighted_{name}"] = _middle_95((values * true).sum(1) / true.sum(1))
    low, high = np.quantile(scores["f1"], [0.025, 0.975], axis=0)
    return Intervals(averages, list(zip(low.tolist(), high.tolist(), strict=True)))


def mean_interval(values: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of (examples,) values, such as losses.

    A resample is one multinomial draw of how often each value counts. Where more than 500 values differ, the
    examples are first put into 500 groups of equal size in random order, whose means vary as the examples do.
    """
    rng = np.random.default_rng(seed)
    groups = 500
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= groups:
        return _middle_95(rng.multinomial(len(values), counts / len(values), size=resamples) @ distinct / len(values))
    kept = rng.permutation(values)[: len(values) // groups * groups]
    means = kept.reshape(groups, -1).mean(1)
    draws = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return _middle_95(draws @ means / groups + (values.mean() - means.mean()))


def _summed(draws: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """(resamples, classes): the drawn cells added up by class."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    total = np.zeros((len(draws), num_classes), dtype=np.int64)
    total[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return total


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is 0."""
    share: np.ndarray = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return share


def _middle_95(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return (float(low), float(high))


def most_confused(confusion: np.ndarray, count: int = 10) -> list[tuple[int, int, int]]:
    """(true class, answered class, how many), most first, errors only."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = [(int(i // len(errors)), int(i % len(errors)), int(errors.reshape(-1)[i])) for i in order]
    return [pair for pair in pairs if pair[2] > 0]
