"""Whether two samples come from the same distribution, with limits that hold for every size and every distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DKW = 2.17  # Wei and Dudley, 2012: 2.16863 is the least constant that holds wherever they looked


@dataclass(frozen=True)
class Gap:
    """The largest difference of two distribution functions. `is_higher`: whether the sample has the larger values."""

    size: float
    is_higher: bool


def gap_to_quantiles(sample: np.ndarray, quantiles: np.ndarray) -> Gap:
    """Of a (N,) sample to what (levels,) quantiles at equal steps from 0 to 1 tell of another: the Kolmogorov-Smirnov
    statistic, less up to one step, so that quantiles in place of a sample never make it larger.

    >>> gap_to_quantiles(np.array([0.6, 0.7, 0.8, 0.9]), np.linspace(0, 1, 11))
    Gap(size=0.5, is_higher=True)
    """
    ordered, count = np.sort(sample), len(sample)
    levels = np.linspace(0, 1, len(quantiles))
    up_to = np.searchsorted(ordered, quantiles, "right") / count
    below = np.searchsorted(ordered, quantiles, "left") / count
    higher, lower = float((levels - up_to).max()), float((below - levels).max())
    return Gap(max(higher, lower, 0.0), higher >= lower)


def gap_limit(first: int, second: int, doubt: float) -> float:
    """What the gap of two samples of these sizes exceeds with a probability of at most `doubt` where both come from one
    distribution, whatever it is (Dvoretzky-Kiefer-Wolfowitz for two samples: Wei and Dudley, Statistics & Probability
    Letters 82, 2012).

    >>> round(gap_limit(500, 1000, 1e-6), 3)
    0.148
    """
    return math.sqrt(math.log(DKW / doubt) / 2 * (first + second) / (first * second))


def shares_p_values(first: np.ndarray, second: np.ndarray, places: Sequence[int] | np.ndarray) -> np.ndarray:
    """(classes,) counts of two samples → for each class of `places`, how likely so unequal a share of it is where both
    come from one distribution (Fisher's exact test, two-sided as twice the smaller tail).

    >>> shares_p_values(np.array([30, 70]), np.array([60, 40]), [0, 1]).round(6).tolist()
    [3.3e-05, 3.3e-05]
    """
    totals = int(first.sum()), int(second.sum())
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, sum(totals) + 1)))])
    return np.array([_fisher(int(first[i]), int(second[i]), totals, log_factorial) for i in places])


def _fisher(count: int, other: int, totals: tuple[int, int], log_factorial: np.ndarray) -> float:
    """Twice the smaller tail of the hypergeometric distribution."""
    both, (total, other_total) = count + other, totals
    possible = np.arange(max(0, both - other_total), min(both, total) + 1)
    logs = (
        -log_factorial[possible]
        - log_factorial[total - possible]
        - log_factorial[both - possible]
        - log_factorial[other_total - both + possible]
    )
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    place = count - possible[0]
    return float(min(1.0, 2 * min(shares[: place + 1].sum(), shares[place:].sum())))
