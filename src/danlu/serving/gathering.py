"""When a small model is asked: at once, or a millisecond later for all that come meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PAUSE = 0.001  # between two calls of the model; a loop of libuv knows no shorter time
PRESSED = 0.6  # of the time that the event loop computes, from which on gathering pays
LOOKED_AT = 0.02  # seconds


class Gathering:
    """A call of the model costs a fixed part, and its weights throw the interpreter's code out of the cache. Where the
    event loop is busy for most of its time, that is paid once a millisecond; where it has time to spare nobody waits,
    and neither where as many are under way as were lately at any time: others are not to be expected.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._crowds = [0, 0]  # the most that were under way at a time, before the last look and since
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.Handle | None = None
        self._is_later = False
        self._is_pressed = False
        self._answered = self._looked = time.monotonic()
        self._computed = time.thread_time()

    def added(self, count: int, waiting: int, answer: Callable[[], None]) -> None:
        """Another was added, and is the `count`th; `waiting`: the requests that are under way. `answer` is called once
        for all that were added; kept here it would keep its lane, and a model that was replaced, until garbage is
        collected."""
        self._crowds[1] = max(self._crowds[1], waiting)
        is_full = count >= self._most or waiting >= max(self._crowds)
        is_later = not is_full and self._is_pressed and time.monotonic() - self._answered < PAUSE
        if self._due is None:
            self._is_later = is_later
            call, loop = self._go, self._loop
            self._due = loop.call_later(PAUSE, call, answer) if is_later else loop.call_soon(call, answer)
        elif self._is_later and is_full:
            self._due.cancel()
            self._is_later, self._due = False, self._loop.call_soon(self._go, answer)

    def _go(self, answer: Callable[[], None]) -> None:
        self._due = None
        now = self._answered = time.monotonic()
        if now - self._looked >= LOOKED_AT:
            computed = time.thread_time()
            self._is_pressed = computed - self._computed > PRESSED * (now - self._looked)
            self._looked, self._computed = now, computed
            self._crowds = [self._crowds[1], 0]
        answer()
