"""Metrics of a classifier from probabilities and true labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
MOST_CELLS = 4_000_000  # drawn numbers in memory at a time
MOST_NUMBERS, FEWEST_DRAWS = 20_000_000, 200  # with hundreds of classes fewer draws do


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
    """95 % intervals (low, high). `averages`: `macro_f1` and so on; `f1`: a class each, None where there is none."""

    averages: dict[str, tuple[float, float]]
    f1: list[tuple[float, float] | None]


def score_intervals(confusion: np.ndarray, *, draws: int = 1000, seed: int = 0) -> Intervals:
    """Intervals of scores that are no plain shares, by drawing matrices that could have given this one.

    A row of the matrix is drawn from the Dirichlet distribution of its counts, with a little more on its right answers
    and on answers that did not occur, so that a model without an error is not certain to have none: half an example
    each (Jeffreys' prior for right against wrong) for the scores of a class, and as much over all classes together for
    their averages. An interval always holds the value measured.
    """
    rows = class_scores(confusion)
    measured = averages(rows)
    used = (confusion.sum(1) + confusion.sum(0)) > 0
    draws = min(draws, max(FEWEST_DRAWS, MOST_NUMBERS // max(1, int(np.count_nonzero(confusion)))))
    rng = np.random.default_rng(seed)
    means: dict[str, list[np.ndarray]] = {}
    for scores, shares in _drawn_scores(confusion, 0.5 / max(1, int((confusion.sum(1) > 0).sum())), draws, rng):
        for name, values in scores.items():
            means.setdefault(f"macro_{name}", []).append(values[:, used].mean(1))
            means.setdefault(f"weighted_{name}", []).append((values * shares).sum(1))
    found: dict[str, tuple[float, float]] = {}
    for key, parts in means.items():
        kind, _, name = key.partition("_")
        found[key] = _middle_95(np.concatenate(parts), getattr(measured[kind], name))
    f1 = np.concatenate([scores["f1"] for scores, _ in _drawn_scores(confusion, 0.5, draws, rng)])
    return Intervals(found, [_middle_95(f1[:, i], row.f1) if used[i] else None for i, row in enumerate(rows)])


def _drawn_scores(
    confusion: np.ndarray, prior: float, draws: int, rng: np.random.Generator
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Precision, recall and F1 as (drawn, classes), and the (drawn, classes) shares of the classes, some at a time."""
    number = len(confusion)
    truth, answer = np.nonzero(confusion)
    counts, on_diagonal = confusion[truth, answer], truth == answer
    support = confusion.sum(1)
    there, never = np.flatnonzero(support), np.flatnonzero((support > 0) & (np.diagonal(confusion) == 0))
    used = (support + confusion.sum(0)) > 0
    at_once = max(1, MOST_CELLS // (len(counts) + 3 * number))
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        right, other, shares = (np.zeros((size, number)) for _ in range(3))
        cells = rng.gamma(counts + prior * on_diagonal, size=(size, len(counts)))
        right[:, truth[on_diagonal]] = cells[:, on_diagonal]
        right[:, never] = rng.gamma(prior, size=(size, len(never)))
        other[:, there] = rng.gamma(prior, size=(size, len(there)))
        wrong = cells * ~on_diagonal
        total = right + other + _summed(wrong, truth, number)
        shares[:, there] = rng.gamma(support[there], size=(size, len(there)))
        shares /= shares.sum(1, keepdims=True)
        scale = np.divide(shares, total, out=np.zeros(shares.shape), where=total > 0)
        right *= scale
        spread = other * scale / max(1, used.sum() - 1)
        answered = right + _summed(wrong * scale[:, truth], answer, number)
        answered += (spread.sum(1, keepdims=True) - spread) * used
        yield (
            {
                "precision": _share(right, answered),
                "recall": _share(right, shares),
                "f1": _share(2 * right, shares + answered),
            },
            shares,
        )


def mean_interval(values: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of (examples,) values, such as losses (bootstrap; Efron, 1979).

    A resample is one multinomial draw of how often each value counts. Where more than 500 values differ, the examples
    are first put into 500 groups of equal size in random order, whose means vary as the examples do, and the groups
    get exponential weights (Bayesian bootstrap; Rubin, 1981), which are drawn faster.
    """
    rng = np.random.default_rng(seed)
    groups = 500
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= groups:
        draws = rng.multinomial(len(values), counts / len(values), size=resamples)
        return _middle_95(draws @ distinct / len(values))
    kept = rng.permutation(values)[: len(values) // groups * groups]
    means = kept.reshape(groups, -1).mean(1)
    weights = rng.standard_exponential((resamples, groups))
    weights /= weights.sum(1, keepdims=True)
    # The values left over make the mean surer than the kept ones alone are.
    deviations = (weights @ means - means.mean()) * math.sqrt(len(kept) / len(values))
    return _middle_95(values.mean() + deviations)


def _summed(draws: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """(resamples, classes): the drawn cells added up by class."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    total = np.zeros((len(draws), num_classes))
    if not len(classes):
        return total
    total[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return total


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is 0."""
    share: np.ndarray = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return share


def _middle_95(values: np.ndarray, measured: float | None = None) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    if measured is None:
        return (float(low), float(high))
    return (min(float(low), measured), max(float(high), measured))


def most_confused(confusion: np.ndarray, count: int = 10) -> list[tuple[int, int, int]]:
    """(true class, answered class, how many), most first, errors only."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = [(int(i // len(errors)), int(i % len(errors)), int(errors.reshape(-1)[i])) for i in order]
    return [pair for pair in pairs if pair[2] > 0]
