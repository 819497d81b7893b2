"""Inputs of a stream, read by threads while others are computed where reading takes long enough to pay for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from danlu.base.errors import UnreadableItem
from danlu.base.machine import available_cores
from danlu.inputs.images import SECONDS_WORTH_A_THREAD

CHUNK = 16
Read = tuple[Any, Any]  # an input, and what it became or the `UnreadableItem` that says why not
Answer = TypeVar("Answer")


def answer_stream(
    inputs: Iterable[Any], read: Callable[[Any], Any], answer: Callable[[list[Read]], list[Answer]], size: int
) -> Iterator[Answer]:
    """What `answer` says of batches of up to `size` inputs, in their order.

    Where the first inputs take at least 0.25 ms each, the next batch is read by threads while one is answered; others
    would wait for Python's lock. Where the source of the inputs fails, what came before is answered first.
    """
    given = iter(inputs)
    waiting: list[Read] = []
    failure: Exception | None = None
    worth_threads: bool | None = None
    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        while failure is None:
            batch, failure = _taken(given, size)
            if not batch:
                break
            first: list[Read] = []
            if worth_threads is None:
                started = time.perf_counter()
                first, batch = _read_all(batch[:CHUNK], read), batch[CHUNK:]
                worth_threads = (time.perf_counter() - started) / len(first) >= SECONDS_WORTH_A_THREAD
            if worth_threads:
                reading = [pool.submit(_read_all, chunk, read) for chunk in _chunks(batch)]
                if waiting:
                    yield from answer(waiting)
                waiting = first + _collected(reading)
            else:
                yield from answer(first + _read_all(batch, read))
        if waiting:
            yield from answer(waiting)
    if failure is not None:
        raise failure


def _taken(given: Iterator[Any], size: int) -> tuple[list[Any], Exception | None]:
    """Up to `size` inputs, and what their source raised behind them: what came before it is answered."""
    taken: list[Any] = []
    try:
        taken.extend(islice(given, size))
    except Exception as error:
        return taken, error
    return taken, None


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[place : place + CHUNK] for place in range(0, len(items), CHUNK)]


def _collected(reading: Sequence[Future[list[Read]]]) -> list[Read]:
    return [one for future in reading for one in future.result()]


def _read_all(items: Sequence[Any], read: Callable[[Any], Any]) -> list[Read]:
    found: list[Read] = []
    for item in items:
        try:
            found.append((item, read(item)))
        except UnreadableItem as error:
            found.append((item, error))
    return found
