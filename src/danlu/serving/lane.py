"""One loaded model and what waits for it.

A model that answers in less than half a millisecond is asked in the event loop: where several together cost less, once
for all requests that were read in the same turn of the loop, or within a millisecond where the loop is busy
(`gathering.py`), otherwise where the request is. Any other has a thread that takes all that waits, up to as many as pay
together, whenever it is free.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from danlu.base import log
from danlu.inputs.images import ImageRecipe
from danlu.prediction.predictor import Predictor
from danlu.serving.asked import Asked
from danlu.serving.gathering import Gathering
from danlu.serving.pace import Pace
from danlu.serving.refusal import Refusal

AT_ONCE = 0.0005
REMEMBERED = 0.9  # of what an example took before


Row = tuple[np.ndarray, np.ndarray]  # (classes,) probabilities and (features,) that the last layer read
Answer = Row | Refusal


@dataclass(frozen=True)
class Limits:
    """`threads`: that compute. `deadline`: seconds from the first byte of a request to its answer. `most_waiting` and
    `most_bytes`: of what was let in and has no answer yet. `most_decoded_bytes`: of memory that decoding images takes
    beside these, all that are decoded at one time."""

    threads: int = 1
    deadline: float = 5.0
    most_waiting: int = 512
    most_bytes: int = 256 * 2**20
    most_decoded_bytes: int = 2**30


@dataclass
class Waiting:
    input: Any
    asked: Asked
    future: asyncio.Future[Answer]


@dataclass
class Place:
    """What one request takes of a lane, until the block ends."""

    lane: Lane
    items: int = 0
    size_bytes: int = 0

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.lane.items -= self.items
        self.lane.size_bytes -= self.size_bytes

    def grow(self, items: int, size_bytes: int = 0) -> None:
        """Take more. Raises `Refusal` where that would not be answered in time."""
        lane, limits = self.lane, self.lane.limits
        ahead = lane.seconds_ahead(lane.items - self.items)
        own = lane.seconds_ahead(self.items + items)
        if own > limits.deadline and self.items + items > 1:
            most = int(limits.deadline / own * (self.items + items))
            raise Refusal(
                413,
                "too_many",
                f"{self.items + items} inputs take longer than the {limits.deadline:g} s an answer may take here:"
                f" ask for at most {max(1, most)} at a time",
            )
        if (
            lane.items + items > limits.most_waiting
            or lane.size_bytes + size_bytes > limits.most_bytes
            or ahead + max(own, lane.pace.alone) > limits.deadline
        ):
            raise Refusal(503, "busy", "too many requests wait for an answer", retry_after=max(1, math.ceil(ahead)))
        self.items += items
        self.size_bytes += size_bytes
        lane.items += items
        lane.size_bytes += size_bytes


class Lane:
    """`answer` gives the calibrated probabilities of one prepared input, and its features."""

    def __init__(self, predictor: Predictor, pace: Pace, limits: Limits) -> None:
        self.predictor, self.pace, self.limits = predictor, pace, limits
        self.items = self.size_bytes = 0
        self.busy_since: float | None = None
        self._each = pace.each
        self._is_of_images = isinstance(predictor.recipe, ImageRecipe)
        self._waiting: deque[Waiting] = deque()
        self._gathered: deque[Waiting] = deque()
        self._gathering = Gathering(pace.together)
        self._is_new = threading.Condition()
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        if pace.alone > AT_ONCE:
            self._thread = threading.Thread(target=self._work, name="danlu-model", daemon=True)
            self._thread.start()

    def seconds_ahead(self, items: int) -> float:
        """How long so many inputs will take, as it went lately."""
        return items * self._each

    @property
    def is_queued(self) -> bool:
        """Whether inputs wait for a thread; otherwise they are computed where they are."""
        return self._thread is not None

    def admitted(self, size_bytes: int) -> Place:
        """A place for one request. Raises `Refusal` where it would not be answered in time."""
        place = Place(self)
        place.grow(1, size_bytes)
        return place

    async def answer(self, input: Any, asked: Asked) -> Row:
        """Raises `Refusal`."""
        if self._is_threaded or self.pace.together > 1:
            found = await self._queued(input, asked)
        elif time.monotonic() > asked.ends:
            raise late()
        else:
            found = self._rows([input])[0]
        if isinstance(found, Refusal):
            raise found
        return found

    def is_stuck(self) -> bool:
        """Whether a computation takes ten times as long as it should, and half a second more."""
        since = self.busy_since
        longest = max(self.pace.alone, self.pace.together * self._each)
        return since is not None and time.monotonic() - since > 0.5 + 10 * longest

    @property
    def _is_threaded(self) -> bool:
        return self._thread is not None and self._is_open

    def _queued(self, input: Any, asked: Asked) -> asyncio.Future[Answer]:
        waiting = Waiting(input, asked, self._loop.create_future())
        if self._is_threaded:
            with self._is_new:
                self._waiting.append(waiting)
                self._is_new.notify()
        else:
            self._gathered.append(waiting)
            self._gathering.added(len(self._gathered), self.items, self._answer_gathered)
        return waiting.future

    def _answer_gathered(self) -> None:
        """Once for all that were gathered."""
        taken = self._alive(self._gathered)
        if taken:
            _deliver(taken, self._rows([one.input for one in taken]))
        if self._gathered:
            self._loop.call_soon(self._answer_gathered)

    def close(self) -> None:
        """Compute what waits, then end the thread; whoever comes later is computed in the event loop."""
        with self._is_new:
            self._is_open = False
            self._is_new.notify()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            if taken:
                started = self.busy_since = time.monotonic()
                found = self._rows([one.input for one in taken])
                took = (time.monotonic() - started) / len(taken)
                self.busy_since = None
                self._each = REMEMBERED * self._each + (1 - REMEMBERED) * took
                self._loop.call_soon_threadsafe(_deliver, taken, found)

    def _take(self) -> list[Waiting] | None:
        """What the thread computes next; None when it is to end."""
        with self._is_new:
            while self._is_open and not self._waiting:
                self._is_new.wait()
            return self._alive(self._waiting) if self._waiting else None

    def _alive(self, waiting: deque[Waiting]) -> list[Waiting]:
        """As many as pay together; nobody computes what is late or what nobody waits for."""
        taken: list[Waiting] = []
        now = time.monotonic()
        while waiting and len(taken) < self.pace.together:
            one = waiting.popleft()
            refusal = _gone() if one.asked.is_gone else late() if now > one.asked.ends else None
            if refusal is None:
                taken.append(one)
            else:  # told to a client that is gone too: its request gives its place back when it ends
                answers: list[Answer] = [refusal]
                self._loop.call_soon_threadsafe(_deliver, [one], answers)
        return taken

    def _rows(self, inputs: list[Any]) -> list[Answer]:
        """An answer for each; where they fail together each is asked alone, so that one harms no other."""
        try:
            batch = _stacked(inputs) if self._is_of_images else inputs
            return list(zip(*self.predictor.with_features(batch), strict=True))
        except Exception as error:
            if len(inputs) > 1:
                return [self._rows([one])[0] for one in inputs]
            log.warn(f"the model could not answer: {error}")
            return [Refusal(500, "failed", "the model could not answer")]


def _stacked(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """`np.stack` in half of its time, which is much for small images."""
    found = np.empty((len(inputs), *inputs[0].shape), inputs[0].dtype)
    for place, one in enumerate(inputs):
        found[place] = one
    return found


def late() -> Refusal:
    return Refusal(503, "late", "the answer would have come too late", retry_after=1)


def _gone() -> Refusal:
    return Refusal(499, "gone", "nobody waits for the answer")


def _deliver(waiting: list[Waiting], answers: list[Answer]) -> None:
    for one, answer in zip(waiting, answers, strict=True):
        if not one.future.done():
            one.future.set_result(answer)
