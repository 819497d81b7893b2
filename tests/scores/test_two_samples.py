"""The limits hold: simulated false alarms stay below what they promise, and real differences are found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact, ks_2samp

from danlu.scores.two_samples import gap_limit, gap_to_quantiles, shares_p_values

LEVELS = np.linspace(0, 1, 201)


def quantiles_of(sample: np.ndarray) -> np.ndarray:
    return np.quantile(sample, LEVELS, method="inverted_cdf")


@pytest.mark.parametrize("kind", ["normal", "few values", "crowded at 1"])
def test_gap_is_the_statistic_of_kolmogorov_and_smirnov_less_at_most_a_step(kind: str) -> None:
    rng = np.random.default_rng(0)
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "few values": lambda n: rng.integers(0, 4, n).astype(float),
        "crowded at 1": lambda n: np.minimum(rng.exponential(1, n), 1.0),
    }[kind]
    for shift in (0, 0.3, -0.5):
        sample, reference = draw(500) + shift, draw(900)
        exact = ks_2samp(sample, reference)
        found = gap_to_quantiles(sample, quantiles_of(reference))
        assert exact.statistic - 1 / 200 - 1e-12 <= found.size <= exact.statistic + 1e-12
        if shift:
            assert found.is_higher == (shift > 0)


@pytest.mark.parametrize(("first", "second"), [(100, 60), (500, 180), (500, 5000)])
@pytest.mark.parametrize("is_discrete", [False, True])
def test_limit_is_exceeded_no_more_often_than_it_says(first: int, second: int, is_discrete: bool) -> None:
    rng, doubt, rounds = np.random.default_rng(first + second), 0.05, 2000
    exceeded = 0
    for _ in range(rounds):
        draw = rng.integers(0, 5, first + second).astype(float) if is_discrete else rng.random(first + second)
        gap = gap_to_quantiles(draw[:first], quantiles_of(draw[first:]))
        exceeded += gap.size > gap_limit(first, second, doubt)
    assert exceeded / rounds <= doubt


def test_limit_is_not_idle() -> None:
    """Half of a deviation is found nearly always, with the doubt that thirty days leave."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(100):
        quantiles = quantiles_of(rng.normal(size=1000))
        found += gap_to_quantiles(rng.normal(0.5, 1, 500), quantiles).size > gap_limit(500, 1000, 1e-7)
    assert found >= 75


def test_shares_are_those_of_the_exact_test_of_fisher() -> None:
    first, second = np.array([30, 0, 70, 2]), np.array([60, 12, 40, 90])
    found = shares_p_values(first, second, range(4))
    for place, p_value in enumerate(found):
        a, b = first[place], second[place]
        table = [[a, first.sum() - a], [b, second.sum() - b]]
        smaller = min(fisher_exact(table, alternative=side).pvalue for side in ("less", "greater"))
        assert p_value == pytest.approx(min(1, 2 * smaller), rel=1e-6)


def test_shares_of_one_distribution_are_rarely_called_unequal() -> None:
    rng, rounds = np.random.default_rng(0), 1000
    below = 0
    for _ in range(rounds):
        first, second = rng.multinomial(500, [0.7, 0.29, 0.01]), rng.multinomial(300, [0.7, 0.29, 0.01])
        below += shares_p_values(first, second, [0, 1, 2]).min() < 0.05 / 3
    assert below / rounds <= 0.05
