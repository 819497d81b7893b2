"""Paired comparisons: the tests equal published ones, err as rarely as they say, and see what is there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from danlu.scores.comparison import holm, mcnemar_p_value, paired_difference


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_the_exact_binomial_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-9)


def pair(seed: int, number: int, first: float, second: float) -> tuple[np.ndarray, np.ndarray]:
    """Two models that share most of their errors."""
    hardness = np.random.default_rng(seed).random(number)
    noise = np.random.default_rng(seed + 10_000).normal(0, 0.05, (2, number))
    return hardness + noise[0] < first, hardness + noise[1] < second


def test_equally_good_models_are_rarely_told_apart() -> None:
    told = []
    for seed in range(400):
        first, second = pair(seed, 1000, 0.85, 0.85)
        told.append(mcnemar_p_value(int((first & ~second).sum()), int((second & ~first).sum())) < 0.05)
    assert sum(told) / 400 <= 0.065


def test_interval_of_the_difference_covers_it() -> None:
    hits = []
    for seed in range(400):
        low, high = paired_difference(*pair(seed, 800, 0.88, 0.85)).interval
        hits.append(low <= 0.03 <= high)
    assert 0.93 <= sum(hits) / 400 <= 0.97


def test_small_difference_on_shared_errors_is_seen_where_separate_intervals_overlap() -> None:
    first, second = pair(0, 4000, 0.90, 0.885)
    found = paired_difference(first, second)
    assert found.p_value < 0.01
    assert found.accuracy == pytest.approx(first.mean() - second.mean())
    assert found.only_first - found.only_second == first.sum() - second.sum()
    assert found.interval[0] > 0


def test_model_does_not_differ_from_itself() -> None:
    right, _ = pair(0, 100, 0.8, 0.8)
    found = paired_difference(right, right)
    assert (found.accuracy, found.p_value) == (0, 1)
    assert found.interval[0] == pytest.approx(-found.interval[1], rel=0.1)


@pytest.mark.parametrize(("gains", "losses"), [(0.0002, 0.004), (0.002, 0.006), (0.02, 0.05)])
def test_interval_covers_rare_differences_too(gains: float, losses: float) -> None:
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        outcome = rng.choice(3, 500, p=[gains, losses, 1 - gains - losses])
        low, high = paired_difference(outcome == 0, outcome == 1).interval
        hits.append(low <= gains - losses <= high)
    assert sum(hits) / 400 >= 0.93


def test_holm_never_lowers_a_value_and_keeps_their_order() -> None:
    values = [0.2, 0.01, 0.04, 0.9]
    adjusted = holm(values)
    assert all(a >= v for a, v in zip(adjusted, values, strict=True))
    assert np.argsort(adjusted, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()
    assert holm([0.03]) == [0.03]
