"""Drift is found soon where there is some, and not where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from streams import CLASSES, PER_SECOND, START, Stream

from danlu.monitoring.alarms import DRIFT, FEW, RETRAIN, STEADY, AlarmBook
from danlu.monitoring.drift import FEWEST, WINDOWS, DriftWatch, Look
from danlu.monitoring.rows import Row
from danlu.prediction.reference import Reference
from danlu.scores.two_samples import shares_p_values


def looks_at(watch: DriftWatch, rows: Iterable[Row]) -> list[Look]:
    return [look for row in rows for look in watch.add(row)]


def stationary(stream: Stream, reference: Reference, days: float) -> tuple[int, int, float]:
    """Alarms and looks of unchanged answers, ten a second, and the highest ratio to a limit."""
    book, looks, highest = AlarmBook("m", DriftWatch(reference)), 0, 0.0
    total = int(days * 86_400 * PER_SECOND)
    for first in range(0, total, 50_000):
        for row in stream.rows(min(50_000, total - first), first=first):
            for look in book.add(row)[0]:
                looks += 1
                highest = max(highest, look.highest)
    return len(book.alarms), looks, highest


def test_unchanged_answers_of_a_day_give_no_alarm() -> None:
    stream = Stream(1)
    alarms, looks, highest = stationary(stream, stream.reference(600), days=0.5)
    assert alarms == 0 and looks > 4000
    assert highest > 0.3, "a limit that nothing comes near would find nothing"


@pytest.mark.slow
@pytest.mark.parametrize("examples", [200, 3000])
def test_unchanged_answers_of_thirty_days_give_at_most_one_alarm(examples: int) -> None:
    stream = Stream(examples)
    alarms, looks, highest = stationary(stream, stream.reference(examples), days=30)
    print(f"{examples} reference examples, 30 days: {alarms} alarms in {looks:,} looks, highest ratio {highest:.2f}")
    assert alarms <= 1 and looks > 250_000


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sure": 3.0}, "confidence"),
        ({"sure": 12.0}, "confidence"),
        ({"mixture": (3, 1, 1, 1)}, "share of 猫"),
        ({"mixture": (1, 1, 1, 0.05)}, "share of frog"),
        ({"shift": 0.5}, "direction"),
        ({"shift": -3.0}, "distance"),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_change_is_found_within_five_hundred_answers(changes: dict[str, Any], named: str, seed: int) -> None:
    stream = Stream(seed)
    watch = DriftWatch(stream.reference())
    assert not any(look.signals for look in looks_at(watch, stream.rows(2000)))
    found = [look for look in looks_at(watch, stream.rows(600, first=2000, **changes)) if look.signals]
    assert found and found[0].answers - 2000 <= 500
    assert any(signal.name.startswith(named) for look in found for signal in look.signals)


def test_small_change_is_found_by_the_long_window() -> None:
    stream = Stream(5)
    watch = DriftWatch(stream.reference(3000))
    looks_at(watch, stream.rows(6000))
    short, long = (window.size for window in WINDOWS)
    found = [look for look in looks_at(watch, stream.rows(long, first=6000, shift=0.12)) if look.signals]
    assert found and found[0].answers - 6000 > short


def test_windows_hold_the_latest_answers_however_many_came_before() -> None:
    stream = Stream(4)
    courses: list[dict[str, Any]] = [
        {},
        {"shift": 1.0, "mixture": (3, 1, 1, 1)},
        {"sure": 5.0, "mixture": (1, 1, 1, 4)},
    ]
    rows = [row for place, how in enumerate(courses) for row in stream.rows(4200, first=4200 * place, **how)]
    reference = stream.reference()
    whole, latest = DriftWatch(reference), DriftWatch(reference)
    looks_at(whole, rows)
    looks_at(latest, rows[-WINDOWS[-1].size :])
    last, expected = (watch._look(WINDOWS[-1], rows[-1].time) for watch in (whole, latest))
    assert last.ratios == expected.ratios and last.signals


def test_nothing_is_said_of_few_answers() -> None:
    stream = Stream(0)
    assert looks_at(DriftWatch(stream.reference()), stream.rows(FEWEST - 1, shift=9.0)) == []


def test_looks_keep_their_distance_however_fast_answers_come() -> None:
    """The promise of days rests on it."""
    stream = Stream(0)
    watch = DriftWatch(stream.reference())
    looks = looks_at(watch, (replace(row, time=START + (row.time - START) / 10) for row in stream.rows(20_000)))
    for window in WINDOWS:
        times = [look.time for look in looks if look.window == window.size]
        assert len(times) > 3 and np.diff(times).min() >= window.seconds


@pytest.mark.parametrize("ahead", [-30.0, 0.0, 15.0, 90.0])
def test_looks_keep_their_distance_where_the_clock_of_the_monitor_is_another(ahead: float) -> None:
    """It catches up every two seconds for ten minutes; a look each time would be five times too many."""
    stream = Stream(0)
    watch, looks, rows = DriftWatch(stream.reference()), list[Look](), list(stream.rows(6000))
    for seconds in range(2, 601, 2):
        looks += looks_at(watch, rows[round(PER_SECOND) * (seconds - 2) : round(PER_SECOND) * seconds])
        looks += watch.catch_up(START + seconds + ahead)
    for window in WINDOWS:
        count = sum(look.window == window.size for look in looks)
        assert 0.9 <= count / (600 / window.seconds) <= 1.1


def test_looks_keep_their_distance_where_one_worker_is_behind_another() -> None:
    stream = Stream(0)
    watch, looks, rows = DriftWatch(stream.reference()), list[Look](), list(stream.rows(6000))
    for seconds in range(2, 601, 2):
        now = rows[10 * (seconds - 2) : 10 * seconds]
        looks += looks_at(watch, (replace(row, time=row.time - 30 * (place % 2)) for place, row in enumerate(now)))
        looks += watch.catch_up(START + seconds)
    assert sum(look.window == WINDOWS[0].size for look in looks) <= 1.2 * 600 / WINDOWS[0].seconds


def test_doubt_of_all_comparisons_of_thirty_days_adds_up_to_one_alarm() -> None:
    watch = DriftWatch(Stream(0).reference(), days=30)
    total = sum(
        watch.doubts[window.size] * (len(watch.reference.distributions) + 1) * 30 * 86_400 / window.seconds
        for window in WINDOWS
    )
    assert total == pytest.approx(1)


def test_class_that_the_model_did_not_have_is_a_change() -> None:
    stream = Stream(0)
    watch = DriftWatch(stream.reference())
    found = looks_at(watch, (replace(row, label="new") for row in stream.rows(300)))
    assert any("another class" in signal.sentence for signal in found[-1].signals)


def test_bundle_of_the_first_format_is_watched_without_features() -> None:
    stream = Stream(0)
    whole = stream.reference()
    names = ("confidence", "entropy")
    reference = replace(whole, summary=None, distributions={name: whole.distributions[name] for name in names})
    watch = DriftWatch(reference)
    assert not any(look.signals for look in looks_at(watch, stream.rows(1000)))
    found = looks_at(watch, stream.rows(600, first=1000, sure=3.0))
    assert any(look.signals for look in found) and set(found[0].ratios) == {*names, "class shares"}


def test_rows_without_features_are_compared_by_what_they_have() -> None:
    stream = Stream(0)
    rows = (replace(row, numbers=row.numbers[:2]) for row in stream.rows(600, shift=5.0))
    found = looks_at(DriftWatch(stream.reference()), rows)
    assert not any(look.signals for look in found) and not any(map(math.isnan, found[-1].ratios.values()))


def test_sentences_name_what_changed_and_where_to() -> None:
    stream = Stream(3)
    watch = DriftWatch(stream.reference())
    found = [look for look in looks_at(watch, stream.rows(600, sure=2.5, mixture=(6, 1, 1, 1))) if look.window == 500]
    told = " / ".join(signal.sentence for signal in found[-1].signals)
    assert "the model is less sure of its answers: median 0." in told
    assert "probabilities are more spread" in told
    assert f"`{CLASSES[0]}` is " in told and "of the last 500 answers, and was 2" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sure": 30.0}, "the model is more sure of its answers"),
        ({"sure": 30.0}, "probabilities are nearer to one class"),
        ({"shift": 5.0}, "inputs differ more from the training data"),
    ],
    ids=["surer", "less spread", "farther"],
)
def test_sentences_say_in_which_direction(changes: dict[str, Any], told: str) -> None:
    stream = Stream(3)
    found = looks_at(DriftWatch(stream.reference()), stream.rows(600, **changes))
    assert told in " / ".join(signal.sentence for signal in found[-1].signals)


def test_alarm_begins_lasts_and_ends() -> None:
    stream = Stream(0)
    book = AlarmBook("pets", DriftWatch(stream.reference()))
    states, events = [book.state], []
    courses = [(1000, {}), (900, {"shift": 2.0}), (7000, {}), (6000, {"shift": 2.0})]
    first = 0
    for count, changes in courses:
        for row in stream.rows(count, first=first, **changes):
            events += book.add(row)[1]
        first += count
        states.append(book.state)
    assert states == [FEW, STEADY, DRIFT, STEADY, RETRAIN]
    assert [event.kind for event in events] == ["drift", "over", "drift", "retrain"]
    assert len(book.alarms) == 2 and book.alarms[0].end is not None and book.now is book.alarms[1]
    assert "inputs" in events[0].text and "time to retrain" in events[-1].text


def test_drift_of_a_day_is_time_to_retrain_also_where_little_is_asked() -> None:
    stream = Stream(0)
    book = AlarmBook("pets", DriftWatch(stream.reference()))
    for row in stream.rows(1500, shift=2.0):
        book.add(replace(row, time=START + (row.time - START) * 1000))
    assert book.state == RETRAIN and book.alarms[0].answers < 5000


def test_drift_near_its_limit_is_one_alarm() -> None:
    """Signals that come and go are no news each time."""
    stream = Stream(7)
    book = AlarmBook("pets", DriftWatch(stream.reference()))
    for place, changes in enumerate([{}, *[{"shift": 0.33}] * 20]):
        for row in stream.rows(1000, first=1000 * place, **changes):
            book.add(row)
    assert 1 <= len(book.alarms) <= 2


def test_clock_that_is_set_back_silences_nothing() -> None:
    stream = Stream(0)
    watch = DriftWatch(stream.reference())
    looks_at(watch, stream.rows(1000))
    found = looks_at(watch, stream.rows(1000, start=START - 86_400, shift=2.0))
    assert any(look.signals for look in found)


def test_rows_without_features_among_others_are_no_drift() -> None:
    stream = Stream(0)
    rows = [
        replace(row, numbers=row.numbers[:2]) if place % 3 == 0 else row for place, row in enumerate(stream.rows(3000))
    ]
    found = looks_at(DriftWatch(stream.reference()), rows)
    assert not any(look.signals for look in found) and "direction 3" in found[-1].ratios


def test_class_shares_of_many_classes_share_the_doubt() -> None:
    classes = 400
    whole = Stream(0).reference(1000)
    counts = [600, *[1] * (classes - 1), 1]
    reference = replace(whole, counts={str(place): count for place, count in enumerate(counts)})
    watch = DriftWatch(reference)
    labels = ["0"] * 100 + ["1"] * 20
    rows = [replace(row, label=label) for row, label in zip(Stream(0).rows(120), labels, strict=True)]
    (look, *_) = [look for look in looks_at(watch, rows[:119]) + watch.catch_up() if look.answers == 119]
    now = np.zeros(classes + 2)
    now[0], now[1] = 100, 19
    least = shares_p_values(now, np.array([*counts, 0]), [0, 1]).min()
    limit = watch.doubts[look.window] / (classes + 2)
    assert look.ratios["class shares"] == pytest.approx(np.log(least) / np.log(limit))
