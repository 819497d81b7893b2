"""Streams of inputs: the same answers in the same order, read by threads or not."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from danlu.base.errors import UnreadableItem
from danlu.prediction import reading
from danlu.prediction.reading import Read, answer_stream


def read(item: int) -> int:
    if item % 10 == 3:
        raise UnreadableItem(f"cannot read {item}")
    return 2 * item


def answer(items: list[Read]) -> list[str]:
    return [f"{item}: {made.message if isinstance(made, UnreadableItem) else made}" for item, made in items]


@pytest.fixture(params=[0.0, 9.0], ids=["threads", "no threads"])
def _worth(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SECONDS_WORTH_A_THREAD", request.param)


@pytest.mark.usefixtures("_worth")
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 256, 257, 1000])
def test_answers_are_those_of_each_input_in_order(count: int) -> None:
    found = list(answer_stream(range(count), read, answer, 256))
    assert found == [f"{n}: {f'cannot read {n}' if n % 10 == 3 else 2 * n}" for n in range(count)]


@pytest.mark.usefixtures("_worth")
def test_endless_input_is_read_two_batches_ahead_at_most() -> None:
    taken = itertools.count()
    stream = answer_stream(taken, read, answer, 100)
    assert next(stream) == "0: 0"
    assert next(taken) <= 200
    stream.close()  # type: ignore[attr-defined]


def test_inputs_read_at_once_are_answered_before_more_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SECONDS_WORTH_A_THREAD", 9.0)
    asked: list[int] = []

    def inputs() -> Iterator[int]:
        for n in range(20):
            asked.append(n)
            yield n

    stream = answer_stream(inputs(), read, answer, 10)
    next(stream)
    assert asked == list(range(10))


def test_next_batch_is_read_by_other_threads_while_one_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SECONDS_WORTH_A_THREAD", 0.0)
    readers, overlapped = set(), threading.Event()

    def slow_read(item: int) -> int:
        readers.add(threading.current_thread().name)
        if item >= 128:  # the second batch waits for the first to be computed, which it could not in one thread
            overlapped.wait(10)
        return item

    def compute(items: list[Read]) -> list[int]:
        overlapped.set()
        return [made for _, made in items]

    assert list(answer_stream(range(500), slow_read, compute, 128)) == list(range(500))
    assert len(readers) > 1 and overlapped.is_set()


@pytest.mark.usefixtures("_worth")
def test_what_came_before_a_fault_of_the_source_is_answered() -> None:
    def inputs() -> Iterator[int]:
        yield from range(300)
        raise UnreadableItem("no more")

    found = []
    with pytest.raises(UnreadableItem, match="no more"):
        for one in answer_stream(inputs(), read, answer, 128):
            found.append(one)  # noqa: PERF402
    assert len(found) == 300


def test_fault_of_the_reader_itself_is_not_swallowed() -> None:
    def broken(item: int) -> int:
        raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        list(answer_stream(range(3), broken, answer, 2))
