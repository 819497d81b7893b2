"""When an alarm begins, lasts and is over: invented looks, whose ratios are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from danlu.monitoring.alarms import DRIFT, RETRAIN, STEADY, AlarmBook, Event, advice
from danlu.monitoring.drift import WINDOWS, DriftWatch, Look, Signal
from danlu.monitoring.rows import Row

SHORT, LONG = (window.size for window in WINDOWS)
DAY = 86_400.0


class Scripted:
    """In place of a watch: each answer is the look that it leads to."""

    def __init__(self) -> None:
        self.forgotten = 0

    def add(self, look: Look) -> list[Look]:
        return [look]

    def forget(self) -> None:
        self.forgotten += 1


def look(answers: int, ratio: float, window: int = SHORT, time: float | None = None) -> Look:
    """A look after so many answers, one a second."""
    signals = (Signal("entropy", ratio, f"entropy at {ratio:g}"),) if ratio >= 1 else ()
    return Look(answers if time is None else time, answers, window, {"entropy": ratio}, signals)


def told(looks: Sequence[Look]) -> tuple[AlarmBook, Scripted, list[Event]]:
    watch = Scripted()
    book = AlarmBook("pets", cast(DriftWatch, watch))
    return book, watch, [event for one in looks for event in book.add(cast(Row, one))[1]]


@pytest.mark.parametrize(("answers", "is_over"), [(1499, False), (1500, True)])
def test_alarm_is_over_after_five_hundred_calm_answers(answers: int, is_over: bool) -> None:
    book, _, events = told([look(1000, 2.0), look(1200, 0.5), look(answers, 0.5)])
    assert [event.kind for event in events] == ["drift", *["over"] * is_over]
    assert book.state == (STEADY if is_over else DRIFT)


def test_ratio_near_the_limit_is_not_calm() -> None:
    book, _, _ = told([look(1000, 2.0), *(look(answers, 0.8) for answers in range(1500, 4000, 500))])
    assert book.state == DRIFT


def test_calm_answers_are_counted_from_the_last_look_that_was_not_calm() -> None:
    looks = [look(1000, 2.0), look(1400, 0.8), look(1600, 0.5)]
    assert told(looks)[0].state == DRIFT
    assert told([*looks, look(1900, 0.5)])[0].state == STEADY


def test_answers_of_an_alarm_that_is_over_are_in_no_window_any_more() -> None:
    assert told([look(1000, 2.0), look(1499, 0.5)])[1].forgotten == 0
    assert told([look(1000, 2.0), look(1500, 0.5)])[1].forgotten == 1


def test_long_window_does_not_keep_up_an_alarm_of_the_short_one() -> None:
    """It has the answers of the alarm in it for long."""
    book, _, _ = told([look(1000, 2.0), look(1400, 1.5, LONG), look(1500, 0.5)])
    assert book.state == STEADY


def test_alarm_of_the_long_window_is_not_ended_by_the_short_one() -> None:
    book, _, _ = told([look(6000, 1.2, LONG), look(6500, 0.1), look(7000, 0.1)])
    assert book.state == DRIFT


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (look(5999, 2.0), DRIFT),
        (look(6000, 2.0), RETRAIN),
        (look(1100, 2.0, time=1000 + DAY - 1), DRIFT),
        (look(1100, 2.0, time=1000 + DAY), RETRAIN),
    ],
    ids=["few answers", "5,000 answers", "less than a day", "a day"],
)
def test_drift_of_five_thousand_answers_or_a_day_is_time_to_retrain(last: Look, state: str) -> None:
    assert told([look(1000, 2.0), last])[0].state == state


def test_each_alarm_that_lasts_is_told_once() -> None:
    first = [look(1000, 2.0), look(6000, 2.0), look(7000, 2.0), look(7500, 0.1)]
    second = [look(8000, 2.0), look(13_000, 2.0), look(14_000, 2.0)]
    kinds = [event.kind for event in told([*first, *second])[2]]
    assert kinds == ["drift", "retrain", "over", "drift", "retrain"]


def test_signal_of_an_alarm_is_told_at_its_highest() -> None:
    book, _, _ = told([look(1000, ratio) for ratio in (2.0, 7.0, 3.0)])
    assert [signal.ratio for signal in book.alarms[0].worst] == [7.0]


@pytest.mark.parametrize(
    ("states", "told_"),
    [(["steady"], ""), (["drift"], "Look at what is sent"), (["drift", "retrain", "steady"], "Label some")],
)
def test_advice_is_that_of_the_worst_state(states: list[Any], told_: str) -> None:
    found = advice({str(place): state for place, state in enumerate(states)})
    assert found.startswith(told_) and bool(found) == bool(told_)
