"""Several workers over one storage, watched: one that dies is told, its trial is queued again, and it is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from danlu.base import log
from danlu.base.errors import MachineError
from danlu.base.machine import available_cores
from danlu.tuning.owners import reclaim
from danlu.tuning.search import Budget, Search
from danlu.tuning.storage import Place

LOOK_SECONDS = 0.2
REPLACED_EACH = 3
STOP_SECONDS = 20.0


@dataclass
class Workers:
    """The processes of a search on this machine. `order`: what each is told, without its number."""

    order: dict[str, Any]
    count: int
    running: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    replaced: int = 0

    def start(self, number: int) -> None:
        threads = max(1, available_cores() // self.count)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        gpu = gpu_of(number, _gpu_count(), os.environ.get("CUDA_VISIBLE_DEVICES"))
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        process = subprocess.Popen(
            [sys.executable, "-m", "danlu.tuning.worker"],
            stdin=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal comes here, and is passed on once
        )
        self.running[number] = process
        with suppress(BrokenPipeError):  # it has ended already, which `ended` tells
            # Not as an argument, which all users of the machine see: it may hold a password.
            _tell_order(process, {**self.order, "worker": number})

    def ended(self) -> Iterator[tuple[int, int]]:
        """(number, exit code) of those that have ended since the last look."""
        for number, process in list(self.running.items()):
            code = process.poll()
            if code is not None:
                del self.running[number]
                yield number, code

    def stop(self, number: int = signal.SIGTERM) -> None:
        for process in self.running.values():
            process.send_signal(number)
        until = time.monotonic() + STOP_SECONDS
        for process in self.running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


def gpu_of(number: int, count: int, visible: str | None) -> str | None:
    """The GPU of a worker, by turns; None where there is at most one. `visible`: those the user allows.

    >>> [gpu_of(number, 2, None) for number in (1, 2, 3)], gpu_of(2, 2, "4,7"), gpu_of(1, 1, None)
    (['0', '1', '0'], '7', None)
    """
    if count < 2:
        return None
    names = visible.split(",") if visible else [str(place) for place in range(count)]
    return names[(number - 1) % len(names)].strip()


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


def run_workers(search: Search, place: Place, budget: Budget, count: int, on_look: Callable[[], None]) -> None:
    """Search with `count` processes until the budget is used.

    Raises `MachineError` when workers keep dying, and `KeyboardInterrupt` after a signal, when all have stopped.
    """
    order = {
        "plan": search.plan.to_json(),
        "journal": None if place.journal is None else str(place.journal.resolve()),
        "url": place.url,
        "trials": budget.trials,
        "deadline": budget.deadline,
        "talks": log.is_talking(),
    }
    workers = Workers(order, count)
    with _signals_as_interrupts():
        try:
            for number in range(1, count + 1):
                workers.start(number)
            while True:
                time.sleep(LOOK_SECONDS)
                for number, code in workers.ended():
                    _look_at_end(workers, search, number, code)
                on_look()
                if not workers.running:
                    _reclaim(search)
                    if search.is_done(budget):
                        return
                    workers.start(1)  # a trial came back to the queue after the others had left
        finally:
            workers.stop()


def _tell_order(process: subprocess.Popen[str], order: dict[str, Any]) -> None:
    if process.stdin is None:
        return
    with process.stdin as file:
        json.dump(order, file)


def _look_at_end(workers: Workers, search: Search, number: int, code: int) -> None:
    if code == 0:
        return
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    _reclaim(search)
    if workers.replaced >= REPLACED_EACH * workers.count:
        raise MachineError(
            f"worker {number} ended with {how}, after {workers.replaced} others that were replaced",
            hint="what they said stands above; SIGKILL often means that memory was short: take fewer `--workers`",
        )
    workers.replaced += 1
    log.warn(f"worker {number} ended with {how}; its trial is tried again, by a new worker")
    workers.start(number)


def _reclaim(search: Search) -> None:
    for number in reclaim(search.study):
        log.say(f"trial {number} was under way in a process that is gone; its settings are queued again")


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        stopped = KeyboardInterrupt()
        stopped.exit_code = 128 + number  # type: ignore[attr-defined]
        raise stopped

    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
