"""The process that owns the address: it starts workers, replaces those that die or hang, and ends with them.

It loads no model. The listening socket is its own, so a connection that waits for a worker outlives the worker.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from danlu.base import log

LOOK = 0.25
SILENT = 1.25  # seconds without a beat, after which a worker that was ready is taken for hanging
STARTING = 60.0
SOON = 5.0  # seconds; a worker that dies sooner, before it could answer, is not well
MOST_SOON = 3
AGAIN = 5.0
AFTER_DRAIN = 1.0
# Garbage is not collected while modules are imported, which took a tenth of the time of a start. -P: a file of the
# folder one happens to be in is no module of ours.
WORKER = "import gc; gc.disable(); from danlu.serving.worker import main; raise SystemExit(main())"
STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass(eq=False)
class Worker:
    """A process, the pipe on which it beats, and when it was heard last."""

    process: subprocess.Popen[bytes]
    pipe: int
    started: float
    heard: float
    is_ready: bool = False


class Supervisor:
    """Keeps `count` workers alive until a signal ends them. `orders`: what each reads from its standard input.
    `when_ready` is called once, when the first can answer."""

    def __init__(
        self, listening: socket.socket, count: int, orders: Mapping[str, Any], when_ready: Callable[[], None]
    ) -> None:
        self._listening, self._count, self._when_ready = listening, count, when_ready
        self._orders = json.dumps({**orders, "socket": listening.fileno()}).encode()
        self._drain_seconds = orders["drain_delay"] + orders["drain_seconds"] + AFTER_DRAIN
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._ends: float | None = None  # when those that still drain are killed
        self._died_soon = 0
        self._fills_at = 0.0
        self._exit_code = 0
        self._was_ready = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, or until workers die as soon as they start; the exit code."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        before = {number: signal.signal(number, _heard) for number in (*STOPS, signal.SIGHUP, signal.SIGCHLD)}
        old_wakeup = signal.set_wakeup_fd(writing)
        self._selector.register(reading, selectors.EVENT_READ)
        try:
            self._fill()
            while self._workers or self._ends is None:
                for key, _ in self._selector.select(LOOK):
                    if key.data is None:
                        for number in os.read(reading, 64):
                            self._signalled(number)
                    else:
                        self._listen(key.data)
                self._bury()
                self._fill()
                self._kill_hanging()
        finally:
            for worker in self._workers:
                worker.process.kill()
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(reading)
            os.close(writing)
        if not self._exit_code:
            log.say("stopped")
        return self._exit_code

    def _start(self) -> None:
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", WORKER, str(writing)],
                stdin=subprocess.PIPE,
                pass_fds=(self._listening.fileno(), writing),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which lets them drain
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        if process.stdin is not None:
            with process.stdin as orders:
                orders.write(self._orders)
        now = time.monotonic()
        worker = Worker(process, reading, now, now)
        self._workers.append(worker)
        self._selector.register(reading, selectors.EVENT_READ, worker)

    def _listen(self, worker: Worker) -> None:
        if not os.read(worker.pipe, 4096):
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
            return
        worker.heard = time.monotonic()
        if not worker.is_ready:
            worker.is_ready = True
            self._died_soon = 0
            if not self._was_ready:
                self._was_ready = True
                self._when_ready()

    def _bury(self) -> None:
        """Take away who died; others take their places unless all are to end."""
        for worker in [one for one in self._workers if one.process.poll() is not None]:
            self._workers.remove(worker)
            code, lived = worker.process.returncode, time.monotonic() - worker.started
            if self._ends is not None:
                continue
            if code > 0 and not self._was_ready:  # it said itself why
                self._stop(code)
                continue
            # One that could answer may have met an input that hangs or crashes it, which its client sends again.
            self._died_soon = self._died_soon + 1 if lived < SOON and not worker.is_ready else 0
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            log.warn(f"worker {worker.process.pid} died ({how}) after {lived:.1f} s; another takes its place")
            if self._died_soon >= MOST_SOON * self._count:
                self._give_up_or_wait()

    def _give_up_or_wait(self) -> None:
        """After too many died before they could answer: no more are started, or later ones while another answers."""
        told = f"{self._died_soon} workers one after the other died before they could answer"
        if any(worker.is_ready for worker in self._workers):
            log.warn(f"{told}: the next is started in {AGAIN:g} s")
            self._fills_at = time.monotonic() + AGAIN
        else:
            log.warn(f"{told}: giving up")
            self._stop(1)

    def _fill(self) -> None:
        """Start as many workers as are missing."""
        if self._ends is None and time.monotonic() >= self._fills_at:
            while len(self._workers) < self._count:
                try:
                    self._start()
                except OSError as error:
                    if not self._workers:
                        raise
                    log.warn(f"no worker could be started: {error.strerror}; the next in {AGAIN:g} s")
                    self._fills_at = time.monotonic() + AGAIN
                    break

    def _kill_hanging(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if now - worker.heard > (SILENT if worker.is_ready else STARTING):
                log.warn(f"worker {worker.process.pid} has not been heard for {now - worker.heard:.1f} s")
                worker.process.kill()
            elif self._ends is not None and now > self._ends:
                log.warn(f"worker {worker.process.pid} still had connections when the time to drain was over")
                worker.process.kill()

    def _signalled(self, number: int) -> None:
        if number in STOPS:
            if self._ends is None:
                self._stop(0)
            else:  # asked twice
                self._ends = 0.0
        elif number == signal.SIGHUP:
            for worker in self._workers:
                if worker.is_ready:  # one that starts reads what is there now, and could not hear it yet
                    worker.process.send_signal(signal.SIGHUP)

    def _stop(self, exit_code: int) -> None:
        self._exit_code = self._exit_code or exit_code
        if self._ends is None:
            self._ends = time.monotonic() + self._drain_seconds
            if not exit_code:
                log.say("stopping: what was asked is answered; a second signal ends at once")
        self._listening.close()
        for worker in self._workers:
            worker.process.terminate()


def _heard(number: int, frame: object) -> None:
    """Nothing: the loop reads the number from the descriptor that wakes it."""
