"""The queue before a slow model: who is computed, together with whom, and who is refused."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from danlu.inputs.images import ImageRecipe
from danlu.serving.asked import Asked
from danlu.serving.lane import Lane, Limits
from danlu.serving.pace import Pace, measure_pace
from danlu.serving.refusal import Refusal

RECIPE = ImageRecipe(1, 1, 1)
POISON = 255
PACE = Pace(alone=0.01, together=32, each=0.001)


class SlowModel:
    """Takes `call` seconds and `each` more an example; 255 makes it raise. `batches`: what it was asked."""

    recipe = RECIPE

    def __init__(self, call: float = 0.0, each: float = 0.0) -> None:
        self.call, self.each = call, each
        self.batches: list[list[int]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        numbers = [int(number) for number in inputs.ravel()]
        self.batches.append(numbers)
        time.sleep(self.call + self.each * len(numbers))
        self.may_go_on.wait(10)
        if POISON in numbers:
            raise ValueError("/srv/model.onnx cannot compute this")
        return np.stack([np.array([number / 255, 1 - number / 255]) for number in numbers])

    def with_features(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.probabilities(inputs), inputs.reshape(len(inputs), -1)

    @property
    def computed(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


def pixel(number: int) -> np.ndarray:
    return np.full((1, 1, 1), number, np.uint8)


def asked(seconds: float = 5.0) -> Asked:
    return Asked("a", time.monotonic() + seconds)


def run(model: SlowModel, what: Callable[[Lane], Awaitable[Any]], pace: Pace = PACE, **limits: Any) -> Any:
    """What a coroutine gives that has a lane of `model`."""

    async def whole() -> Any:
        lane = Lane(model, pace, Limits(**limits))  # type: ignore[arg-type]
        try:
            return await asyncio.wait_for(what(lane), 20)
        finally:
            model.may_go_on.set()
            lane.close()

    return asyncio.run(whole())


async def until(is_so: Callable[[], object]) -> None:
    ends = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < ends
        await asyncio.sleep(0.002)


async def outcome(lane: Lane, number: int, who: Asked | None = None) -> Any:
    """The answer's first share as a number of 255, or the code of a refusal."""
    try:
        with lane.admitted(1):
            probabilities, features = await lane.answer(pixel(number), who or asked())
            assert features.tolist() == [number]
            return round(255 * probabilities[0])
    except Refusal as refusal:
        return refusal.code


def test_requests_that_come_while_one_is_computed_are_computed_together() -> None:
    model = SlowModel(call=0.02)

    async def what(lane: Lane) -> list[Any]:
        first = asyncio.ensure_future(outcome(lane, 0))
        await until(lambda: model.batches)
        return [await first, *await asyncio.gather(*(outcome(lane, number) for number in range(1, 101)))]

    assert run(model, what) == list(range(101))
    assert [len(batch) for batch in model.batches] == [1, 32, 32, 32, 4]


def test_batch_is_never_larger_than_what_pays() -> None:
    model = SlowModel(call=0.005)

    async def what(lane: Lane) -> list[Any]:
        return await asyncio.gather(*(outcome(lane, number) for number in range(20)))

    assert run(model, what, Pace(0.01, 4, 0.005)) == list(range(20))
    assert max(map(len, model.batches)) == 4


def test_lone_request_waits_for_nobody() -> None:
    model = SlowModel(call=0.05)

    async def what(lane: Lane) -> float:
        taken = []
        for number in range(5):
            started = time.monotonic()
            await outcome(lane, number)
            taken.append(time.monotonic() - started)
        return min(taken)

    assert run(model, what) < 0.05 + 0.01


def test_fast_model_is_asked_where_the_request_is() -> None:
    model = SlowModel()

    async def what(lane: Lane) -> tuple[bool, Any, Any]:
        return lane.is_queued, await outcome(lane, 7), await outcome(lane, 8, asked(-1))

    assert run(model, what, Pace(0.0001, 1, 0.0001)) == (False, 7, "late")
    assert model.computed == [7]


def test_nothing_is_computed_after_it_expired() -> None:
    model = SlowModel()
    model.may_go_on.clear()

    async def what(lane: Lane) -> list[Any]:
        first = asyncio.ensure_future(outcome(lane, 0))
        await until(lambda: model.batches)
        late = [asyncio.ensure_future(outcome(lane, number, asked(0.05))) for number in range(1, 11)]
        good = asyncio.ensure_future(outcome(lane, 99))
        await asyncio.sleep(0.1)
        model.may_go_on.set()
        return [await first, set(await asyncio.gather(*late)), await good]

    assert run(model, what) == [0, {"late"}, 99]
    assert model.batches == [[0], [99]]


def test_what_nobody_waits_for_is_not_computed_and_holds_no_place() -> None:
    model = SlowModel()
    model.may_go_on.clear()

    async def what(lane: Lane) -> tuple[int, int]:
        first = asyncio.ensure_future(outcome(lane, 0))
        await until(lambda: model.batches)
        clients = [asked() for _ in range(10)]
        gone = [asyncio.ensure_future(outcome(lane, 1 + place, who)) for place, who in enumerate(clients)]
        await asyncio.sleep(0.02)
        for who in clients:
            who.is_gone = True
        model.may_go_on.set()
        await first
        await asyncio.wait(gone, timeout=2)
        return lane.items, lane.size_bytes

    assert run(model, what) == (0, 0)
    assert model.computed == [0]


def test_poison_among_31_good_ones_is_the_only_error() -> None:
    model = SlowModel()
    model.may_go_on.clear()

    async def what(lane: Lane) -> list[Any]:
        first = asyncio.ensure_future(outcome(lane, 0))
        await until(lambda: model.batches)
        rest = asyncio.gather(*(outcome(lane, POISON if number == 13 else number) for number in range(32)))
        await asyncio.sleep(0.02)
        model.may_go_on.set()
        await first
        return await rest

    found = run(model, what)
    assert found == [*range(13), "failed", *range(14, 32)]
    assert len(model.batches[1]) == 32


def test_request_that_was_cancelled_harms_no_other_of_its_batch() -> None:
    model = SlowModel()
    model.may_go_on.clear()

    async def what(lane: Lane) -> list[Any]:
        first = asyncio.ensure_future(outcome(lane, 0))
        await until(lambda: model.batches)
        cancelled, *others = [asyncio.ensure_future(outcome(lane, number)) for number in range(1, 6)]
        await until(lambda: lane.items == 6)
        cancelled.cancel()
        model.may_go_on.set()
        return [await first, *await asyncio.gather(*others), lane.items]

    assert run(model, what) == [0, 2, 3, 4, 5, 0]


def test_lane_goes_on_after_the_model_failed() -> None:
    model = SlowModel()

    async def what(lane: Lane) -> list[Any]:
        return [await outcome(lane, number) for number in (POISON, 3, POISON, 4)]

    assert run(model, what) == ["failed", 3, "failed", 4]


def test_request_that_would_be_answered_too_late_is_refused_at_once() -> None:
    model = SlowModel()
    model.may_go_on.clear()

    async def what(lane: Lane) -> tuple[int, int, float, float]:
        waiting = [asyncio.ensure_future(outcome(lane, 1)) for _ in range(9)]
        await until(lambda: lane.items == 9)
        started = time.monotonic()
        with pytest.raises(Refusal) as refused, lane.admitted(1):
            pass
        took = time.monotonic() - started
        model.may_go_on.set()
        await asyncio.gather(*waiting)
        with lane.admitted(1):
            return refused.value.status, lane.items, float(refused.value.retry_after or 0), took

    status, items, retry_after, took = run(model, what, Pace(0.1, 1, 0.1), deadline=0.95)
    assert (status, items) == (503, 1)
    assert retry_after >= 1 and took < 0.01


def test_batch_counts_with_all_its_items() -> None:
    async def what(lane: Lane) -> tuple[int, int]:
        with lane.admitted(1) as place, pytest.raises(Refusal) as refused:
            place.grow(99)
        return refused.value.status, lane.items

    assert run(SlowModel(), what, Pace(0.1, 1, 0.1), deadline=5.0) == (413, 0)

    async def beside_others(lane: Lane) -> tuple[int, int]:
        with lane.admitted(1) as first:
            first.grow(29)
            with lane.admitted(1) as place, pytest.raises(Refusal) as refused:
                place.grow(29)
            return refused.value.status, lane.items

    assert run(SlowModel(), beside_others, Pace(0.1, 1, 0.1), deadline=5.0) == (503, 30)


def test_as_many_as_are_advised_are_let_in() -> None:
    async def what(lane: Lane) -> tuple[str, int]:
        with lane.admitted(1) as place:
            with pytest.raises(Refusal) as refused:
                place.grow(99)
            place.grow(49)
            return refused.value.message, lane.items

    message, items = run(SlowModel(), what, Pace(0.1, 1, 0.1), deadline=5.0)
    assert message.endswith("ask for at most 50 at a time") and items == 50


def test_refusal_says_after_how_long_what_is_ahead_will_be_done() -> None:
    async def what(lane: Lane) -> float | None:
        with lane.admitted(1) as place:
            place.grow(4)
            with pytest.raises(Refusal) as refused:
                lane.admitted(1)
            return refused.value.retry_after

    assert run(SlowModel(), what, Pace(1.0, 1, 1.0), deadline=5.0) == 5


def test_request_behind_others_has_to_have_the_time_it_takes_alone() -> None:
    async def what(lane: Lane) -> str:
        with lane.admitted(1), lane.admitted(1), lane.admitted(1), pytest.raises(Refusal) as refused:
            lane.admitted(1)
        return refused.value.code

    assert run(SlowModel(), what, Pace(alone=0.5, together=32, each=0.05), deadline=0.62) == "busy"


def test_model_that_became_slower_lets_fewer_in() -> None:
    async def what(lane: Lane) -> tuple[float, float]:
        before = lane.seconds_ahead(100)
        for number in range(5):
            await outcome(lane, number)
        return before, lane.seconds_ahead(100)

    before, after = run(SlowModel(each=0.02), what)
    assert before == pytest.approx(0.1) and after > 5 * before


def test_one_call_that_was_held_up_turns_nobody_away() -> None:
    model = SlowModel()

    async def what(lane: Lane) -> float:
        await outcome(lane, 1)
        model.each = 0.2
        await outcome(lane, 2)
        return lane.seconds_ahead(1)

    assert run(model, what) < 0.05


@pytest.mark.parametrize(("alone", "is_queued"), [(0.0004, False), (0.001, True)])
def test_model_that_takes_more_than_half_a_millisecond_holds_up_no_event_loop(alone: float, is_queued: bool) -> None:
    async def what(lane: Lane) -> bool:
        return lane.is_queued

    assert run(SlowModel(), what, Pace(alone, 1, alone)) == is_queued


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [({"most_waiting": 3}, [1, 1, 1]), ({"most_bytes": 100}, [40, 50])],
    ids=["items", "bytes"],
)
def test_what_waits_is_bounded(limits: dict[str, int], sizes: list[int]) -> None:
    async def what(lane: Lane) -> tuple[str, int, int]:
        places = [lane.admitted(size) for size in sizes]
        for place in places:
            place.__enter__()
        with pytest.raises(Refusal) as refused, lane.admitted(20):
            pass
        held = lane.size_bytes
        for place in places:
            place.__exit__(None, None, None)
        assert held == sum(sizes)
        return refused.value.code, lane.items, lane.size_bytes

    assert run(SlowModel(), what, **limits) == ("busy", 0, 0)


def test_closed_lane_computes_what_waits_and_then_ends() -> None:
    model = SlowModel(call=0.01)

    async def what(lane: Lane) -> list[Any]:
        waiting = [asyncio.ensure_future(outcome(lane, number)) for number in range(40)]
        await until(lambda: model.batches)
        lane.close()
        found = await asyncio.gather(*waiting)
        thread = lane._thread
        assert thread is not None
        await until(lambda: not thread.is_alive())
        return [*found, await outcome(lane, 77)]

    assert run(model, what) == [*range(40), 77]


def test_model_that_hangs_is_told() -> None:
    model = SlowModel()
    model.may_go_on.clear()

    async def what(lane: Lane) -> tuple[bool, float, bool]:
        started = time.monotonic()
        one = asyncio.ensure_future(outcome(lane, 1))
        await until(lambda: model.batches)
        before = lane.is_stuck()
        while not lane.is_stuck():
            await asyncio.sleep(0.01)
        took = time.monotonic() - started
        model.may_go_on.set()
        await one
        return before, took, lane.is_stuck()

    before, took, after = run(model, what, Pace(0.02, 1, 0.02))
    assert not before and not after
    assert 0.7 <= took < 2


def test_model_that_has_nothing_to_do_does_not_hang() -> None:
    async def what(lane: Lane) -> None:
        await outcome(lane, 1)
        await until(lambda: lane.busy_since is None)

    run(SlowModel(), what)


def test_batch_may_take_as_long_as_all_its_inputs() -> None:
    """Ten times 0.32 s and half a second more."""

    async def what(lane: Lane) -> list[bool]:
        found = []
        for seconds in (2.0, 5.0):
            lane.busy_since = time.monotonic() - seconds
            found.append(lane.is_stuck())
        return found

    assert run(SlowModel(), what, Pace(alone=0.01, together=32, each=0.01)) == [False, True]


# How many together pay


@pytest.mark.parametrize(
    ("call", "each", "together"),
    [(0.002, 0.0, 32), (0.0, 0.002, 1), (0.003, 0.001, 16), (0.03, 0.0, 32), (0.2, 0.0, 1), (0.02, 0.025, 2)],
    ids=[
        "costs a call",
        "costs an example",
        "costs both",
        "slow call",
        "longer than a batch may take",
        "four take 0.12",
    ],
)
def test_batches_are_as_large_as_pays(call: float, each: float, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Clocked(SlowModel):
        """Moves the clock instead of sleeping."""

        def probabilities(self, inputs: np.ndarray) -> np.ndarray:
            nonlocal now
            now += call + each * len(inputs)
            return inputs

    monkeypatch.setattr("danlu.serving.pace.time", SimpleNamespace(perf_counter=lambda: now))
    found = measure_pace(Clocked())  # type: ignore[arg-type]
    assert found.together == together
    assert found.alone == pytest.approx(call + each)
    assert found.each == pytest.approx(call / together + each)


def test_call_that_was_disturbed_says_nothing_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = 0.0, 0

    class Disturbed(SlowModel):
        def probabilities(self, inputs: np.ndarray) -> np.ndarray:
            nonlocal now, calls
            calls += 1
            now += 0.002 * len(inputs) * (50 if calls % 3 == 0 else 1)
            return inputs

    monkeypatch.setattr("danlu.serving.pace.time", SimpleNamespace(perf_counter=lambda: now))
    assert measure_pace(Disturbed()).alone == pytest.approx(0.002)  # type: ignore[arg-type]


QUICK = Pace(alone=0.0001, together=8, each=0.00002)


def test_small_model_is_asked_once_for_all_that_was_read_in_one_turn() -> None:
    model = SlowModel()

    async def what(lane: Lane) -> Any:
        assert not lane.is_queued
        return await asyncio.gather(*(lane.answer(pixel(number), asked()) for number in range(20)))

    rows = run(model, what, QUICK)
    assert [round(255 * row[0][0]) for row in rows] == list(range(20))
    assert [len(batch) for batch in model.batches] == [8, 8, 4]


def test_lone_input_of_a_small_model_waits_for_nobody() -> None:
    model = SlowModel()

    async def what(lane: Lane) -> float:
        started = time.monotonic()
        for number in range(100):
            await lane.answer(pixel(number), asked())
        return time.monotonic() - started

    assert run(model, what, QUICK) < 0.5 and [len(batch) for batch in model.batches] == [1] * 100


def test_late_and_abandoned_inputs_of_a_small_model_are_not_computed() -> None:
    model = SlowModel()

    async def what(lane: Lane) -> Any:
        gone = asked()
        gone.is_gone = True
        answering = [lane.answer(pixel(number), who) for number, who in enumerate([asked(-1), gone, asked()])]
        return await asyncio.gather(*answering, return_exceptions=True)

    late, gone, row = run(model, what, QUICK)
    assert isinstance(late, Refusal) and late.code == "late" and isinstance(gone, Refusal)
    assert model.computed == [2] and not isinstance(row, Exception)


def test_poison_among_what_is_read_together_is_one_error() -> None:
    model = SlowModel()

    async def what(lane: Lane) -> Any:
        answering = [lane.answer(pixel(number), asked()) for number in (1, POISON, 3)]
        return await asyncio.gather(*answering, return_exceptions=True)

    found = run(model, what, QUICK)
    assert [isinstance(one, Refusal) for one in found] == [False, True, False]


def test_model_whose_answers_depend_on_company_is_asked_alone() -> None:
    assert measure_pace(SlowModel(), depends_on_batch=True).together == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("alone", [0.0001, 0.01], ids=["in the loop", "in a thread"])
def test_lane_that_was_replaced_is_gone_with_its_model_at_once(alone: float) -> None:
    """Garbage is collected after tens of thousands of objects, and a model outside Python's memory is one of them."""

    async def whole() -> bool:
        lane = Lane(SlowModel(), Pace(alone, 32, alone), Limits())  # type: ignore[arg-type]
        assert await outcome(lane, 7) == 7
        lane.close()
        kept = weakref.ref(lane)
        del lane
        ends = time.monotonic() + 5
        while kept() is not None and time.monotonic() < ends:
            await asyncio.sleep(0.01)
        return kept() is None

    gc.disable()
    try:
        assert asyncio.run(whole())
    finally:
        gc.enable()


def test_small_model_is_asked_when_its_gathering_says_so() -> None:
    model = SlowModel()
    told: list[Callable[[], None]] = []

    async def what(lane: Lane) -> list[Any]:
        lane._gathering = SimpleNamespace(added=lambda count, waiting, answer: told.append(answer))  # type: ignore[assignment]
        asking = [asyncio.ensure_future(outcome(lane, number)) for number in (3, 4)]
        await asyncio.sleep(0.02)
        assert model.batches == []
        told[0]()
        return list(await asyncio.gather(*asking))

    assert run(model, what, Pace(0.0001, 32, 0.0001)) == [3, 4]
    assert model.batches == [[3, 4]]
