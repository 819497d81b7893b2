"""Load for a service: as many requests a second as wanted, whatever becomes of them, or a few clients in turn.

It comes from a process of its own with the lowest priority, since load from outside takes no processor of the service.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

MOST_AT_A_TIME = 900  # connections


@dataclass
class Found:
    """What became of the requests; `statuses` holds the name of an error where none came."""

    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    good_seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    good_per_second: float = 0.0
    good_per_core_second: float = 0.0
    offered_per_second: float = 0.0
    without_retry_after: int = 0
    most_bytes: int = 0


def resident_bytes(process: int) -> int:
    return _kibibytes(process, "VmRSS") * 2**10


def peak_bytes(process: int) -> int:
    """The most that was resident since the process started, or since `start_peak_anew`."""
    return _kibibytes(process, "VmHWM") * 2**10


def start_peak_anew(process: int) -> None:
    Path(f"/proc/{process}/clear_refs").write_text("5", encoding="ascii")


def _kibibytes(process: int, name: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(name)


def request_of(body: bytes, kind: str = "image/png", path: str = "/predict") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def offered(
    host: str, port: int, body: bytes, *, rate: float = 0, seconds: float, clients: int = 0, watched: int
) -> Found:
    """`rate` requests a second at random moments for so many seconds, each on a connection of its own; with `clients`
    instead so many ask one request after the other. What was answered within the time counts for `good_per_second`.

    `watched`: the process that answers. Its memory is looked at, and `good_per_core_second` leaves out the time in
    which its busiest thread could have run and had no core, because something else on the machine had it.
    """
    words = [sys.executable, __file__, host, str(port), str(rate), str(seconds), str(clients), str(watched)]
    made = subprocess.run(words, input=body, stdout=subprocess.PIPE, check=True)
    found = Found(**json.loads(made.stdout))
    found.statuses = Counter(found.statuses)
    return found


async def _offered(
    host: str, port: int, body: bytes, *, rate: float, seconds: float, clients: int, watched: int
) -> Found:
    found = Found()
    request = request_of(body)
    tasks: set[asyncio.Task[None]] = set()
    started = time.monotonic()
    ends = started + seconds
    in_time = 0

    async def one() -> None:
        nonlocal in_time
        asked = time.monotonic()
        try:
            head = await asyncio.wait_for(_ask(host, port, request), 30)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            found.statuses[type(error).__name__] += 1
            return
        now = time.monotonic()
        status = int(head[9:12])
        found.statuses[str(status)] += 1
        if status == 200:
            found.good_seconds.append(now - asked)
            in_time += now <= ends
        elif status == 503:
            found.refused_seconds.append(now - asked)
            found.without_retry_after += b"\r\nretry-after: " not in head.lower()

    async def client() -> None:
        while time.monotonic() < ends:
            await one()

    async def watch() -> None:
        while True:
            found.most_bytes = max(found.most_bytes, resident_bytes(watched))
            await asyncio.sleep(0.1)

    before = _threads(watched)

    def stop_counting() -> None:
        after = _threads(watched)
        busiest = max(before, key=lambda thread: after[thread][0] - before[thread][0])
        waited = after[busiest][1] - before[busiest][1]
        found.good_per_second = in_time / seconds
        found.good_per_core_second = in_time / (seconds - waited)

    asyncio.get_running_loop().call_later(seconds, stop_counting)
    watching = asyncio.ensure_future(watch())
    if clients:
        await asyncio.gather(*(client() for _ in range(clients)))
    else:
        rng, next_one, count = random.Random(0), started, 0
        while next_one < ends:
            await asyncio.sleep(max(0.0, next_one - time.monotonic()))
            if len(tasks) < MOST_AT_A_TIME:
                task = asyncio.ensure_future(one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                count += 1
            next_one += rng.expovariate(rate)
        found.offered_per_second = count / (time.monotonic() - started)
        while tasks:
            await asyncio.wait(tasks)
    watching.cancel()
    found.seconds = time.monotonic() - started
    return found


def _threads(process: int) -> dict[str, tuple[float, float]]:
    """Seconds in which each thread ran, and in which it waited for a core."""
    found = {}
    for thread in Path(f"/proc/{process}/task").iterdir():
        ran, waited, _ = (thread / "schedstat").read_text(encoding="ascii").split()
        found[thread.name] = (int(ran) / 1e9, int(waited) / 1e9)
    return found


async def _ask(host: str, port: int, request: bytes) -> bytes:
    """The head of an answer, after all of it came."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        return head
    finally:
        writer.close()


if __name__ == "__main__":
    os.nice(19)
    host, port, rate, seconds, clients, watched = sys.argv[1:]
    result = asyncio.run(
        _offered(
            host,
            int(port),
            sys.stdin.buffer.read(),
            rate=float(rate),
            seconds=float(seconds),
            clients=int(clients),
            watched=int(watched),
        )
    )
    json.dump(vars(result), sys.stdout)
