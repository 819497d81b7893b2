"""Which workers are killed, and when: workers and clocks are invented, no process is started."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest

from danlu.serving.supervisor import SILENT, STARTING, Supervisor, Worker


class Process:
    """What is sent to it."""

    pid = 7

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.sent.append("KILL")

    def terminate(self) -> None:
        self.sent.append("TERM")

    def send_signal(self, number: signal.Signals) -> None:
        self.sent.append(number.name.removeprefix("SIG"))


def supervisor(*workers: Worker, drain_seconds: float = 30.0) -> Supervisor:
    listening: Any = SimpleNamespace(fileno=lambda: 0, close=lambda: None)
    orders = {"drain_delay": 0.5, "drain_seconds": drain_seconds}
    found = Supervisor(listening, len(workers), orders, lambda: None)
    found._workers.extend(workers)
    return found


def worker(silent_for: float = 0.0, *, is_ready: bool = True) -> Any:
    now = time.monotonic()
    process: Any = Process()
    return Worker(process, 0, now - 100, now - silent_for, is_ready)


@pytest.mark.parametrize(
    ("silent_for", "is_ready", "sent"),
    [
        (SILENT - 0.5, True, []),
        (SILENT + 0.1, True, ["KILL"]),
        (STARTING - 1, False, []),
        (STARTING + 1, False, ["KILL"]),
    ],
)
def test_worker_that_is_not_heard_is_killed(silent_for: float, is_ready: bool, sent: list[str]) -> None:
    one = worker(silent_for, is_ready=is_ready)
    supervisor(one)._kill_hanging()
    assert one.process.sent == sent


def test_silence_is_over_soon_enough_for_two_seconds() -> None:
    """And a busy machine may hold up five beats."""
    assert 1.0 < SILENT < 1.5


def test_workers_have_the_time_to_drain_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    one = worker()
    found, now = supervisor(one), time.monotonic()
    found._signalled(signal.SIGTERM)
    for seconds, sent in ((31.0, ["TERM"]), (32.0, ["TERM", "KILL"])):
        one.heard = now + seconds
        clock = SimpleNamespace(monotonic=lambda at=now + seconds: at)
        monkeypatch.setattr("danlu.serving.supervisor.time", clock)
        found._kill_hanging()
        assert one.process.sent == sent


def test_second_signal_ends_at_once() -> None:
    one = worker()
    found = supervisor(one)
    for number in (signal.SIGINT, signal.SIGTERM):
        found._signalled(number)
    found._kill_hanging()
    assert one.process.sent == ["TERM", "KILL"]


def test_reload_is_told_to_those_who_can_hear_it() -> None:
    ready, starting = worker(), worker(is_ready=False)
    supervisor(ready, starting)._signalled(signal.SIGHUP)
    assert (ready.process.sent, starting.process.sent) == (["HUP"], [])


def died(found: Supervisor, *, is_ready: bool, times: int) -> None:
    """So many workers that were started a moment ago die, one after the other."""
    for _ in range(times):
        one = worker(is_ready=is_ready)
        one.started = time.monotonic()
        one.process.returncode = -signal.SIGKILL
        found._workers.append(one)
        found._bury()


def test_workers_that_die_before_they_can_answer_are_not_started_for_ever() -> None:
    found = supervisor()
    found._count, found._was_ready = 1, True
    died(found, is_ready=False, times=2)
    assert found._ends is None
    died(found, is_ready=False, times=1)
    assert found._ends is not None and found._exit_code == 1


def test_workers_that_could_answer_are_replaced_however_often_they_die() -> None:
    """An input that crashes them is sent again by its client."""
    found = supervisor()
    found._count, found._was_ready = 1, True
    died(found, is_ready=True, times=20)
    assert found._ends is None


def test_worker_that_answers_goes_on_where_others_die() -> None:
    found = supervisor(worker())
    found._count, found._was_ready = 2, True
    died(found, is_ready=False, times=12)
    assert found._ends is None and found._fills_at > time.monotonic()
