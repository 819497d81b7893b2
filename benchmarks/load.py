"""Requests at a given rate, whatever the answers take: `load.py PORT BODY CONTENT_TYPE RATE SECONDS CONNECTIONS`.

They come as strangers' do (a Poisson process), and each is timed from the moment at which it came, also where it waits
for a free connection, so that a service that stops for a moment is charged with all who waited. Where this process
itself stood still for longer than half a millisecond, nobody came meanwhile: all at once they would be a burst that no
stranger sends. Prints JSON: answers a second, milliseconds at 50 and 99 %, the same at 99 % in the middle one of all
quarters of a second, which a machine that stands still now and then does not change, and the share of the time it stood
still itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from pathlib import Path

import uvloop

STILL = 0.0005
QUARTER = 0.25


class Connection(asyncio.Protocol):
    """Sends one request at a time; the answers have a content length."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.due, self.data = pool, 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.pool.free.append(self)

    def send(self, due: float) -> None:
        self.due = due
        self.transport.write(self.pool.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found or len(body) < length_of(head):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        self.data = b""
        self.pool.taken.append((self.due, time.perf_counter() - self.due))
        self.pool.next(self)


class Pool:
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.free: list[Connection] = []
        self.waiting: deque[float] = deque()
        self.taken: list[tuple[float, float]] = []  # when it came, and the seconds until its answer

    def ask(self, due: float) -> None:
        if self.free:
            self.free.pop().send(due)
        else:
            self.waiting.append(due)

    def next(self, connection: Connection) -> None:
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.free.append(connection)


def length_of(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError("an answer without a length")


async def run(port: int, request: bytes, rate: float, seconds: float, connections: int) -> dict[str, float]:
    pool, loop, rng = Pool(request), asyncio.get_running_loop(), random.Random(0)
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(pool), "127.0.0.1", port)
    begun = due = time.perf_counter()
    still = 0.0
    while due - begun < seconds:
        due += rng.expovariate(rate)
        while (left := due - (looked := time.perf_counter())) > 0:
            await asyncio.sleep(left if left > 0.002 else 0)
        if -left > STILL:
            still -= left
            due = looked
        pool.ask(time.perf_counter())
        await asyncio.sleep(0)
    while len(pool.free) < connections:
        await asyncio.sleep(0.001)
    took = time.perf_counter() - begun
    quarters: dict[int, list[float]] = {}
    for due, seconds_taken in pool.taken:
        quarters.setdefault(int((due - begun) / QUARTER), []).append(seconds_taken)
    whole = [seconds_taken for _, seconds_taken in pool.taken]
    return {
        "per_second": len(whole) / took,
        "still": still / seconds,
        "p50_ms": 1000 * percentile(whole, 0.5),
        "p99_ms": 1000 * percentile(whole, 0.99),
        "p99_quarter_ms": 1000 * percentile([percentile(one, 0.99) for one in quarters.values()], 0.5),
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def main() -> None:
    port, body, kind, rate, seconds, connections = sys.argv[1:]
    data = Path(body).read_bytes()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    print(json.dumps(uvloop.run(run(int(port), head.encode() + data, float(rate), float(seconds), int(connections)))))


if __name__ == "__main__":
    main()
