"""Tests that may be looked at after every example: how often they err on equal models, and that they decide."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from danlu.scores.anytime import DECIDES, PairedTest, SharesTest

RUNS = 400


def paired(seed: int, first: float, second: float, examples: int) -> PairedTest:
    rng, found = np.random.default_rng(seed), PairedTest()
    for a, b in zip(rng.random(examples) < first, rng.random(examples) < second, strict=True):
        found.add(first_right=bool(a), second_right=bool(b))
    return found


def shared(seed: int, shares: tuple[float, float], examples: int, second_of: float) -> SharesTest:
    rng, found = np.random.default_rng(seed), SharesTest()
    which = rng.random(examples) < second_of
    drawn = rng.random(examples)
    for arm, value in zip(which, drawn, strict=True):
        found.add(int(arm), bool(value < shares[int(arm)]))
    return found


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_equal_models_are_told_apart_in_at_most_five_of_a_hundred(share: float) -> None:
    """Although it is looked at after each of a thousand examples."""
    wrong = sum(paired(seed, share, share, 1000).better is not None for seed in range(RUNS))
    assert wrong / RUNS <= 0.05


@pytest.mark.parametrize(("share", "second_of"), [(0.9, 0.1), (0.6, 0.5), (0.99, 0.5)])
def test_equal_shares_are_told_apart_in_at_most_five_of_a_hundred(share: float, second_of: float) -> None:
    wrong = sum(shared(seed, (share, share), 1000, second_of).better is not None for seed in range(RUNS))
    assert wrong / RUNS <= 0.05


def test_e_values_of_equal_models_are_one_in_the_mean() -> None:
    """What makes the promise true: the exact mean over every possible course of twelve examples."""
    total = 0.0
    for course in product([False, True], repeat=12):
        found = PairedTest()
        for is_first in course:
            found.add(first_right=is_first, second_right=not is_first)
        total += found.e_value / 2**12
    assert total == pytest.approx(1)


def test_e_values_of_equal_shares_are_at_most_one_in_the_mean() -> None:
    share, total = 0.7, 0.0
    for course in product([False, True], repeat=10):
        found = SharesTest()
        for place, is_right in enumerate(course):
            found.add(place % 2, is_right)
        likelihood = np.prod([share if is_right else 1 - share for is_right in course])
        total += found.e_value * likelihood
    assert 0.5 < total <= 1 + 1e-9


def test_better_of_two_is_found_and_named() -> None:
    decided = [paired(seed, 0.85, 0.92, 3000).better for seed in range(20)]
    assert decided.count(1) >= 18 and 0 not in decided
    decided = [shared(seed, (0.95, 0.80), 3000, 0.3).better for seed in range(20)]
    assert decided.count(0) >= 18 and 1 not in decided


def test_model_with_few_of_the_requests_is_decided_upon_with_all_of_them() -> None:
    """One of ten requests goes to the worse of the two."""
    decided = [shared(seed, (0.95, 0.7), 1000, 0.1).better for seed in range(10)]
    assert decided.count(0) >= 9


def test_decision_stays() -> None:
    found = PairedTest()
    for _ in range(20):
        found.add(first_right=False, second_right=True)
    assert found.better == 1 and found.highest >= DECIDES
    for _ in range(20):
        found.add(first_right=True, second_right=False)
    assert found.better == 1 and found.e_value < 1


def test_examples_that_both_have_right_tell_nothing() -> None:
    found = PairedTest()
    for _ in range(100):
        found.add(first_right=True, second_right=True)
    assert found.highest == 1


def test_e_value_of_a_short_course_is_what_a_hand_computes() -> None:
    """Blocks of one and one. The first is played with shares of a half each and changes nothing; then the shares are
    3/4 and 1/4, together 1/2."""
    found = SharesTest()
    for which, is_right in [(0, True), (1, False), (0, True), (1, False)]:
        found.add(which, is_right)
    assert found.e_value == pytest.approx((0.75 / 0.5) * (0.75 / 0.5))
    found = SharesTest()
    for which, is_right in [(0, True), (1, False), (0, False), (1, True)]:
        found.add(which, is_right)
    assert found.e_value == pytest.approx((0.25 / 0.5) * (0.25 / 0.5))
