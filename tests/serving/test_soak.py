"""A service for ten minutes under everything at once: right answers, no leak. DANLU_SOAK_SECONDS makes it shorter."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from load import resident_bytes
from server import Server
from slow_bundles import slowed
from test_answers import WRONG, form, in_base64, picture
from test_limits import head

from danlu.base.journal import MOST_BYTES, Journal, journal_files

SECONDS = float(os.environ.get("DANLU_SOAK_SECONDS", "600"))
KILL_EVERY, RELOAD_EVERY = min(60.0, SECONDS / 6), min(30.0, SECONDS / 12)
AFTER_A_KILL = 3.0  # seconds in which a request can be one that the killed worker had
COLORS = {"红": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}


@dataclass
class Soak:
    """What is going on, and what was found."""

    server: Server
    ends: float
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    cut_off: list[float] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    reloads: int = 0
    samples: dict[int, list[tuple[float, float, int]]] = field(default_factory=dict)

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self.ends


async def open_to(soak: Soak) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(soak.server.host, soak.server.port)


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, Any]:
    told = (await reader.readuntil(b"\r\n\r\n")).lower()
    body = await reader.readexactly(int(told.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return int(told[9:12]), json.loads(body) if b"application/json" in told else None


async def ask(soak: Soak, kind: str, request: bytes, connection: Any = None) -> tuple[int, Any] | None:
    """None where the connection broke, which only a kill may do."""
    started = time.monotonic()
    try:
        reader, writer = connection or await open_to(soak)
        writer.write(request)
        status, content = await asyncio.wait_for(answer_of(reader), 20)
    except (OSError, asyncio.IncompleteReadError) as error:
        soak.outcomes[f"{kind} {type(error).__name__}"] += 1
        soak.cut_off.append(started)
        return None
    finally:
        if connection is None and "writer" in locals():
            writer.close()
    soak.outcomes[f"{kind} {status}"] += 1
    if status >= 500 and status != 503:
        soak.wrong.append((kind, status, content))
    return status, content


async def good(soak: Soak, rng: random.Random) -> None:
    """One image after the other on a connection that is kept for a while."""
    while soak.is_on:
        try:
            connection = await open_to(soak)
        except OSError:
            soak.cut_off.append(time.monotonic())
            continue
        for _ in range(rng.randint(1, 40)):
            label, color = rng.choice(list(COLORS.items()))
            size = (rng.randint(16, 300), rng.randint(16, 300))
            body = picture(color, size, rng.choice(("PNG", "JPEG", "BMP")))
            found = await ask(soak, "good", head("image/png", f"Content-Length: {len(body)}") + body, connection)
            if found is None:
                break
            if found[0] == 200 and found[1]["class"] != label:
                soak.wrong.append((label, found[1]))
            elif found[0] not in (200, 503):
                soak.wrong.append((label, found))
            await asyncio.sleep(rng.expovariate(20))
        connection[1].close()


async def batches(soak: Soak, rng: random.Random) -> None:
    while soak.is_on:
        labels = [rng.choice(list(COLORS)) for _ in range(12)]
        files = [picture(COLORS[label]) for label in labels]
        files[5] = b"poison"
        if rng.random() < 0.5:
            body, kind = form(*files, name="files")
        else:
            body, kind = json.dumps({"images": [in_base64(file) for file in files]}).encode(), "application/json"
        request = head(kind, f"Content-Length: {len(body)}", path="/predict/batch") + body
        found = await ask(soak, "batch", request)
        if found is not None and found[0] == 200:
            told = [answer.get("class", "error") for answer in found[1]["answers"]]
            if told != [*labels[:5], "error", *labels[6:]]:
                soak.wrong.append((labels, told))
        await asyncio.sleep(rng.expovariate(4))


async def bad(soak: Soak, rng: random.Random) -> None:
    cases = [case for case in WRONG.values() if len(case[0]) < 100_000]
    while soak.is_on:
        body, kind, status = rng.choice(cases)
        found = await ask(soak, "bad", head(kind or "a/b", f"Content-Length: {len(body)}") + body)
        if found is not None and found[0] not in (status, 503):
            soak.wrong.append((body[:40], kind, status, found))
        await asyncio.sleep(rng.expovariate(10))


async def leaving(soak: Soak, rng: random.Random) -> None:
    """Goes in the middle of a body, or before the answer."""
    body = picture(size=(200, 200), form="BMP")
    request = head("image/bmp", f"Content-Length: {len(body)}") + body
    while soak.is_on:
        try:
            _, writer = await open_to(soak)
            writer.write(request[: rng.choice((10, 60, 5000, len(request)))])
            await asyncio.sleep(rng.choice((0, 0.002, 0.05)))
            writer.transport.abort() if rng.random() < 0.5 else writer.close()
            soak.outcomes["left"] += 1
        except OSError:
            soak.cut_off.append(time.monotonic())
        await asyncio.sleep(rng.expovariate(10))


async def dripping(soak: Soak, rng: random.Random) -> None:
    """Sends a header of which the end never comes, until it is cut off."""
    while soak.is_on:
        try:
            reader, writer = await open_to(soak)
            started = time.monotonic()
            while soak.is_on and not reader.at_eof():
                writer.write(b"GET /livez HTTP/1.1\r\nX: " if time.monotonic() - started < 0.1 else b"a")
                await writer.drain()
                await asyncio.sleep(0.5)
                if time.monotonic() - started > 15:
                    soak.wrong.append("a slow header was not cut off")
            soak.outcomes["slow header cut off"] += 1
            writer.close()
        except OSError:
            soak.outcomes["slow header cut off"] += 1
        await asyncio.sleep(rng.random())


async def trouble(soak: Soak, place: Path, bundles: list[Path]) -> None:
    """Replaces the bundle, asks for a reload, and kills the younger worker, so that the older lives all the time."""
    next_kill, next_reload = time.monotonic() + KILL_EVERY, time.monotonic() + RELOAD_EVERY
    while soak.is_on:
        await asyncio.sleep(0.2)
        now = time.monotonic()
        if now > next_reload:
            next_reload += RELOAD_EVERY
            soak.reloads += 1
            fresh, old = place.with_name("fresh"), place.with_name("old")
            await asyncio.to_thread(shutil.copytree, bundles[soak.reloads % 2], fresh)
            os.rename(place, old)
            os.rename(fresh, place)
            os.kill(soak.server.process.pid, signal.SIGHUP)
            await asyncio.to_thread(shutil.rmtree, old)
        if now > next_kill and soak.ends - now > 5:
            next_kill += KILL_EVERY
            soak.kills.append(time.monotonic())
            os.kill(soak.server.workers[-1], signal.SIGKILL)


async def watching(soak: Soak) -> None:
    while soak.is_on:
        for process in (soak.server.process.pid, *soak.server.workers):
            try:
                descriptors = len(os.listdir(f"/proc/{process}/fd"))
                sample = (time.monotonic(), resident_bytes(process) / 2**20, descriptors)
            except (OSError, ValueError):  # killed at this moment
                continue
            soak.samples.setdefault(process, []).append(sample)
        await asyncio.sleep(min(1.0, SECONDS / 100))


async def everything(soak: Soak, place: Path, bundles: list[Path]) -> None:
    doing = [good(soak, random.Random(number)) for number in range(4)]
    doing += [batches(soak, random.Random(10)), bad(soak, random.Random(11)), leaving(soak, random.Random(12))]
    doing += [dripping(soak, random.Random(20 + number)) for number in range(20)]
    await asyncio.gather(*doing, trouble(soak, place, bundles), watching(soak))


def halves(samples: list[tuple[float, float, int]], column: int) -> tuple[float, float]:
    """The medians of both halves of what follows the first fifth."""
    values = [sample[column] for sample in samples[len(samples) // 5 :]]
    return statistics.median(values[: len(values) // 2]), statistics.median(values[len(values) // 2 :])


@pytest.mark.soak
def test_ten_minutes_of_everything(images: Path, tmp_path: Path) -> None:
    bundles = [slowed(images, tmp_path / f"bundle-{steps}", steps_per_call=steps) for steps in (60, 61)]
    place = shutil.copytree(bundles[0], tmp_path / "served")
    with Server([place], tmp_path, "--workers", 2) as server:
        soak = Soak(server, time.monotonic() + SECONDS)
        asyncio.run(everything(soak, place, bundles))
        told = server.ask("GET", "/metrics")[1]
        log = server.log
        supervisor, oldest = server.process.pid, server.workers[0]
        assert server.stop() == 0
    rows = list((journal := Journal(tmp_path / "journal")).rows())
    journal_bytes = sum(path.stat().st_size for path in journal_files(tmp_path / "journal"))
    stray = [one for one in soak.cut_off if not any(-AFTER_A_KILL < kill - one < 5 for kill in soak.kills)]
    answered = soak.outcomes["good 200"] + 11 * soak.outcomes["batch 200"]
    print(f"\n{SECONDS:g} s: {dict(sorted(soak.outcomes.items()))}")
    print(f"{len(soak.kills)} kills, {soak.reloads} reloads, {len(soak.cut_off)} requests cut off by kills")
    for name, process in (("supervisor", supervisor), ("oldest worker", oldest)):
        (first, second), (few, many) = (halves(soak.samples[process], column) for column in (1, 2))
        print(f"{name}: memory {first:.1f} then {second:.1f} MiB, descriptors {few:g} then {many:g}")
    print(f"journal: {len(rows)} rows of {answered} answers seen, {journal.torn} torn, {journal_bytes / 1e6:.1f} MB")
    print(f"{len(told):,} bytes of metrics")

    assert soak.wrong == []
    assert stray == []
    assert soak.outcomes["good 200"] > 10 * SECONDS and soak.outcomes["batch 200"] > SECONDS / 4
    assert soak.outcomes["slow header cut off"] > 0
    assert "giving up" not in log and "Traceback" not in log
    assert log.count("died (signal SIGKILL)") == len(soak.kills) and log.count("another takes its place") == len(
        soak.kills
    )
    assert log.count("replaces") >= soak.reloads
    assert len(soak.samples[oldest]) > 0.9 * max(map(len, soak.samples.values()))  # it lived all the time
    for process in (supervisor, oldest):
        (first, second), (few, many) = (halves(soak.samples[process], column) for column in (1, 2))
        assert second <= 1.05 * first
        assert many <= few + 5
    assert journal.torn <= len(soak.kills)
    assert len(rows) >= answered - 200 * len(soak.kills)
    assert journal_bytes <= min(MOST_BYTES, 400 * len(rows))
