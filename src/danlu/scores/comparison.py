"""Whether one model is better than another on the same examples, or the difference could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DOUBT = 0.05
DRAWS = 10_000


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first minus the second model on the same examples.

    `only_first`, `only_second`: examples that one alone has right. `interval`: 95 %. `p_value`: of the exact McNemar
    test, how likely so unequal counts are when both models are equally good.
    """

    accuracy: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p_value: float


def paired_difference(first_right: np.ndarray, second_right: np.ndarray) -> Difference:
    """Compare (examples,) bool answers of two models to the same examples, in the same order.

    >>> paired_difference(np.array([1, 1, 0, 1], bool), np.array([1, 0, 0, 1], bool)).p_value
    1.0
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    return Difference(
        (only_first - only_second) / len(first_right),
        _interval(only_first, only_second, len(first_right)),
        only_first,
        only_second,
        mcnemar_p_value(only_first, only_second),
    )


def _interval(only_first: int, only_second: int, examples: int) -> tuple[float, float]:
    """95 % of the draws from what is known after the examples, with half an example of doubt for each outcome
    (Jeffreys). A bootstrap has no width where no example differs, and is too narrow where few do."""
    doubted = np.array([only_first, only_second, examples - only_first - only_second]) + 0.5
    shares = np.random.default_rng(0).dirichlet(doubted, DRAWS)
    low, high = np.quantile(shares[:, 0] - shares[:, 1], [0.025, 0.975])
    return float(low), float(high)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Two-sided exact test that both counts come from a fair coin (McNemar, 1947).

    >>> round(mcnemar_p_value(1, 9), 4)
    0.0215
    """
    from scipy.special import bdtr  # scipy.stats takes a second to import

    fewer = min(only_first, only_second)
    return min(1.0, 2 * float(bdtr(fewer, only_first + only_second, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Values adjusted so that all comparisons together err with the doubt of one (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]
