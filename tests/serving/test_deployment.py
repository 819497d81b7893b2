"""Which bundle answers which user."""

from __future__ import annotations

import pytest

from danlu.serving.deployment import arm_of


@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.5, 0.5], [0.2, 0.3, 0.5]], ids=str)
def test_share_of_the_users_is_that_of_the_bundle(shares: list[float]) -> None:
    found = [arm_of(f"user {number}", shares) for number in range(5000)]
    assert [found.count(place) / 5000 for place in range(len(shares))] == pytest.approx(shares, abs=0.03)


def test_user_stays_at_a_bundle_in_every_process_and_version() -> None:
    """SHA-256 of 1 to 4 begins with 6b, d4, 4e and 4b: 0.42, 0.83, 0.30 and 0.29 of the way."""
    assert [arm_of(str(user), [0.3, 0.3, 0.4]) for user in (1, 2, 3, 4)] == [1, 2, 1, 0]


def test_user_of_the_smaller_share_stays_there_when_it_grows() -> None:
    before = {user for user in range(500) if arm_of(str(user), [0.9, 0.1]) == 1}
    assert before and before <= {user for user in range(500) if arm_of(str(user), [0.7, 0.3]) == 1}
