"""A busy event loop asks a small model once a millisecond; one that has time to spare lets nobody wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from danlu.serving import gathering
from danlu.serving.gathering import LOOKED_AT, PAUSE, Gathering

CROWD = 10


class Clock:
    """The time, and how much of it was computed in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.computed = 100.0
        fake = SimpleNamespace(monotonic=lambda: self.now, thread_time=lambda: self.computed)
        monkeypatch.setattr(gathering, "time", fake)

    def passes(self, seconds: float, busy: float) -> None:
        self.now += seconds
        self.computed += busy * seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Told:
    """A gathering that writes down when it answers."""

    def __init__(self, answered: list[str]) -> None:
        self.found, self.answered = Gathering(4), answered

    def added(self, count: int, waiting: int) -> None:
        self.found.added(count, waiting, lambda: self.answered.append("answered"))


def run(what: Callable[[Told, list[str]], Awaitable[None]]) -> list[str]:
    async def whole() -> list[str]:
        answered: list[str] = []
        await what(Told(answered), answered)
        return answered

    return asyncio.run(whole())


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def press(found: Told, clock: Clock, busy: float, crowd: int = CROWD) -> None:
    """A call of the model after some time in which the loop computed for this share, and so many were under way."""
    clock.passes(2 * LOOKED_AT, busy)
    found.added(1, crowd)
    await turn()


def test_loop_with_time_to_spare_lets_nobody_wait(clock: Clock) -> None:
    async def what(found: Told, answered: list[str]) -> None:
        for busy in (0.0, 0.3, 0.5):
            await press(found, clock, busy)
            before = len(answered)
            found.added(1, 1)
            await turn()
            assert len(answered) == before + 1

    run(what)


def test_busy_loop_asks_once_for_all_that_come_in_a_millisecond(clock: Clock) -> None:
    async def what(found: Told, answered: list[str]) -> None:
        await press(found, clock, 0.9)
        assert answered == ["answered"]
        for count in (1, 2, 3):
            found.added(count, count)
            await turn()
        assert answered == ["answered"], "they wait"
        await asyncio.sleep(20 * PAUSE)

    assert run(what) == ["answered"] * 2


def test_nobody_waits_for_much_longer_than_a_millisecond(clock: Clock) -> None:
    async def what(found: Gathering, answered: list[str]) -> None:
        await press(found, clock, 0.9)
        found.added(1, 1)
        await asyncio.sleep(0.005)
        assert len(answered) == 2

    run(what)


@pytest.mark.parametrize(
    ("count", "waiting"),
    [(4, 4), (2, CROWD), (2, CROWD + 5)],
    ids=["full", "all", "batch"],
)
def test_nobody_waits_for_whom_cannot_come(clock: Clock, count: int, waiting: int) -> None:
    async def what(found: Told, answered: list[str]) -> None:
        await press(found, clock, 0.9)
        found.added(1, 1)
        await turn()
        assert len(answered) == 1
        found.added(count, waiting)
        await turn()
        assert len(answered) == 2
        await asyncio.sleep(20 * PAUSE)

    assert run(what) == ["answered"] * 2, "and is answered once"


def test_one_who_asks_again_and_again_waits_for_nobody(clock: Clock) -> None:
    """However busy the loop is, and however many others are connected and ask nothing."""

    async def what(found: Told, answered: list[str]) -> None:
        for _ in range(3):
            await press(found, clock, 0.9, crowd=1)
        before = len(answered)
        found.added(1, 1)
        await turn()
        assert len(answered) == before + 1

    run(what)


def test_as_many_as_were_there_lately_wait_already(clock: Clock) -> None:
    async def what(found: Told, answered: list[str]) -> None:
        await press(found, clock, 0.9)
        found.added(1, CROWD)
        await turn()
        assert len(answered) == 2

    run(what)


def test_who_comes_a_millisecond_after_the_last_waits_for_nobody(clock: Clock) -> None:
    async def what(found: Told, answered: list[str]) -> None:
        await press(found, clock, 0.9)
        clock.passes(1.5 * PAUSE, 0.9)
        found.added(1, 1)
        await turn()
        assert len(answered) == 2

    run(what)


def test_loop_that_was_busy_lets_nobody_wait_when_it_is_not_any_more(clock: Clock) -> None:
    async def what(found: Told, answered: list[str]) -> None:
        await press(found, clock, 0.9)
        await press(found, clock, 0.1)
        found.added(1, 1)
        await turn()
        assert len(answered) == 3

    run(what)
