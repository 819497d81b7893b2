"""A service whose model is slow, so that requests wait: neighbours, clients that leave, overload, a hanging model."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from load import offered, resident_bytes
from server import Server
from slow_bundles import FAILS_AT, HANGS_AT, slowed
from test_answers import form, in_base64, picture

from danlu.base.bundle import open_bundle
from danlu.base.journal import Journal
from danlu.prediction.predictor import load_bundle
from danlu.serving.lane import Limits
from danlu.serving.pace import measure_pace


@pytest.fixture(scope="session")
def slow(images: Path, home: Path) -> Path:
    """A bundle that takes about 10 ms a call and 1 ms an example."""
    return slowed(images, home / "slow", steps_per_call=500, steps_per_example=50)


@pytest.fixture(scope="module")
def slow_server(slow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server([slow], tmp_path_factory.mktemp("slow"), "--workers", 1) as found:
        yield found


def colors(count: int) -> list[bytes]:
    rng = random.Random(0)
    return [picture(tuple(rng.randrange(30, 256) for _ in range(3)), (16, 16)) for _ in range(count)]


def all_at_once(server: Server, contents: list[Any]) -> list[tuple[int, Any]]:
    with ThreadPoolExecutor(len(contents)) as clients:
        return list(clients.map(server.post, contents))


def test_slow_model_is_queued(slow: Path) -> None:
    pace = measure_pace(load_bundle(open_bundle(slow), spinning=False, most_threads=1))
    assert pace.alone > 0.005


def test_same_answer_alone_in_any_batch_and_offline(slow_server: Server, slow: Path, tmp_path: Path) -> None:
    files = colors(64)
    for place, data in enumerate(files):
        (tmp_path / f"{place:03d}.png").write_bytes(data)
    words = [sys.executable, "-m", "danlu", "predict", slow, tmp_path, "--json"]
    told = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
    offline = sorted((json.loads(line) for line in told.splitlines()), key=lambda row: Path(row["input"]).name)
    assert len(offline) == 64

    found = {"alone": [slow_server.post(data)[1] for data in files]}
    found["together"] = [answer for _, answer in all_at_once(slow_server, list(files))]
    for size in (1, 2, 5, 31, 64):
        found[f"batches of {size}"] = [
            answer
            for start in range(0, 64, size)
            for answer in slow_server.ask("POST", "/predict/batch", *form(*files[start : start + size], name="files"))[
                1
            ]["answers"]
        ]
    worst = 0.0
    for way, answers in found.items():
        for one, other in zip(offline, answers, strict=True):
            assert one["class"] == other["class"], way
            assert set(one["probabilities"]) == set(other["probabilities"])
            worst = max(
                worst, *(abs(one["probabilities"][name] - share) for name, share in other["probabilities"].items())
            )
    print(f"largest difference of a probability over {len(found)} ways: {worst:.1e}")
    assert worst <= 1e-5
    assert len({row["class"] for row in offline}) == 3


@pytest.mark.parametrize("poison", [b"poison", picture(FAILS_AT, (16, 16))], ids=["no image", "model fails"])
def test_one_poison_among_31_good_ones_is_the_only_error(slow_server: Server, poison: bytes) -> None:
    items = colors(31)
    items.insert(13, poison)
    status, batch = slow_server.post({"images": [in_base64(item) for item in items]}, "/predict/batch")
    assert status == 200
    assert [place for place, answer in enumerate(batch["answers"]) if "error" in answer] == [13]

    apart = all_at_once(slow_server, list(items))
    assert [place for place, (status, _) in enumerate(apart) if status != 200] == [13]
    assert apart[13][0] == (422 if poison == b"poison" else 500)


def test_clients_that_leave_are_not_computed(slow: Path, tmp_path: Path) -> None:
    with Server([slow], tmp_path, "--workers", 1) as server:
        body = picture(size=(16, 16))
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body)
        busy = json.dumps({"images": [in_base64(item) for item in colors(200)]}).encode()
        with ThreadPoolExecutor(1) as other:
            answers = other.submit(server.ask, "POST", "/predict/batch", busy, "application/json")
            time.sleep(0.1)
            connections = []
            for _ in range(50):
                connection = socket.create_connection((server.host, server.port), 5)
                connection.sendall(head + body)
                connections.append(connection)
            for connection in connections:
                connection.close()
            assert answers.result()[0] == 200
        assert server.post(body)[0] == 200
        told = server.ask("GET", "/metrics")[1]
    computed = len(list(Journal(tmp_path / "journal").rows()))
    assert 'danlu_requests_total{route="/predict",status="499"} ' in told
    print(f"of 50 requests whose clients left {computed - 201} were computed")
    assert computed == 201


def test_expired_requests_are_not_computed(slow: Path, tmp_path: Path) -> None:
    """What still waits when a worker stood still for longer than the deadline is refused when it goes on."""
    with Server([slow], tmp_path, "--workers", 1, deadline=0.6) as server, ThreadPoolExecutor(1) as other:
        items = [in_base64(item) for item in colors(200)]
        asking = other.submit(server.post, {"images": items}, "/predict/batch")
        (worker,) = server.workers
        time.sleep(0.1)
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.7)
        os.kill(worker, signal.SIGCONT)
        status, found = asking.result()
    late = [answer for answer in found["answers"] if "error" in answer]
    rows = list(Journal(tmp_path / "journal").rows())
    begun_in_time = sum(row["ms"] > 600 for row in rows)
    print(f"of 200 inputs {len(late)} expired; {len(rows)} were computed, of which {begun_in_time} ended late")
    assert status == 200 and {answer["error"]["code"] for answer in late} == {"late"}
    assert len(rows) == 200 - len(late)
    assert 0 < begun_in_time <= 32  # the batch that was being computed; those who waited longer were not


def test_request_in_the_way_of_a_hanging_model_ends(images: Path, tmp_path: Path) -> None:
    bundle = slowed(images, tmp_path / "bundle", steps_per_call=200)
    pace = measure_pace(load_bundle(open_bundle(bundle), spinning=False, most_threads=1))
    limit = 0.5 + 10 * max(pace.alone, pace.together * pace.each)
    with Server([bundle], tmp_path, "--workers", 1) as server:
        (before,) = server.workers
        assert server.post(picture())[0] == 200
        outcomes: list[float] = []

        def ask(color: tuple[int, ...]) -> None:
            started = time.monotonic()
            with pytest.raises((http.client.HTTPException, OSError)):
                server.post(picture(color, (16, 16)))
            outcomes.append(time.monotonic() - started)

        clients = [threading.Thread(target=ask, args=(color,)) for color in (HANGS_AT, *[(200, 40, 40)] * 8)]
        for client in clients:
            client.start()
            time.sleep(0.03)
        time.sleep(limit)
        ready = server.ask("GET", "/readyz")
        for client in clients:
            client.join(20)
        started = time.monotonic()
        assert server.post(picture())[0] == 200
        print(
            f"limit {limit:.2f} s; error after {max(outcomes):.2f} s;"
            f" answers again {time.monotonic() - started:.2f} s later"
        )
        assert (ready[0], ready[1]["error"]["code"]) == (503, "stuck")
        assert len(outcomes) == 9 and max(outcomes) <= limit + 2
        assert server.workers != [before]
        assert "has not been heard" in server.log


@pytest.mark.slow
def test_input_that_hangs_worker_after_worker_does_not_end_the_service(images: Path, tmp_path: Path) -> None:
    """As a client does that asks again whenever it is cut off."""
    with Server([slowed(images, tmp_path / "bundle")], tmp_path, "--workers", 1, "--journal", "-") as server:
        for _ in range(4):
            with pytest.raises((http.client.HTTPException, OSError)):
                server.post(picture(HANGS_AT, (16, 16)))
        assert server.post(picture())[0] == 200
        assert server.log.count("another takes its place") == 4


def test_service_gives_up_when_no_worker_can_start(images: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(images, tmp_path / "bundle")
    with Server([bundle], tmp_path, "--workers", 1, "--journal", "-") as server:
        assert server.post(picture())[0] == 200
        (bundle / "model.onnx").write_bytes(b"x")
        os.kill(server.workers[0], signal.SIGKILL)
        assert server.process.wait(20) == 1
        assert "3 workers one after the other died before they could answer: giving up" in server.log


def test_hanging_model_that_is_asked_in_place_is_replaced_too(images: Path, tmp_path: Path) -> None:
    with Server([slowed(images, tmp_path / "bundle")], tmp_path, "--workers", 1) as server:
        (before,) = server.workers
        started = time.monotonic()
        with pytest.raises((http.client.HTTPException, OSError)):
            server.post(picture(HANGS_AT, (16, 16)))
        took = time.monotonic() - started
        assert server.post(picture())[0] == 200
        print(f"error after {took:.2f} s")
        assert took <= 2 and server.workers != [before]


@pytest.mark.slow
def test_overload_is_refused_and_costs_the_others_nothing(images: Path, tmp_path: Path) -> None:
    """Ten times what the model can do, at random moments: 90 % of the peak is still answered, the rest refused."""
    bundle = slowed(images, tmp_path / "bundle", steps_per_example=1500)
    body = picture(size=(16, 16))
    with Server([bundle], tmp_path, "--workers", 1) as server:
        (worker,) = server.workers
        for _ in range(20):
            server.post(body)
        time.sleep(1)
        idle = resident_bytes(worker)
        where = (server.host, server.port, body)
        peaks, overloads = [], []
        for _ in range(2):  # in turn: other work on the machine slows down both
            peaks.append(offered(*where, seconds=5, clients=8, watched=worker))
            rate = 10 * max(found.good_per_second for found in peaks)
            overloads.append(offered(*where, rate=rate, seconds=12, watched=worker))
        peak, good = (max(found.good_per_core_second for found in kind) for kind in (peaks, overloads))
        statuses = sum((found.statuses for found in overloads), Counter[str]())
        refused = statistics.median(seconds for found in overloads for seconds in found.refused_seconds)
        most_bytes = max(found.most_bytes for found in overloads)
        print(
            f"peak {peak:.1f} answers a second with a core with 8 clients, {good:.1f} at overload ({good / peak:.0%});"
            f" as the clock goes {max(found.good_per_second for found in peaks):.1f} and"
            f" {max(found.good_per_second for found in overloads):.1f}; offered"
            f" {overloads[-1].offered_per_second:.0f}/s: {dict(statuses)},"
            f" refused in {1000 * refused:.1f} ms (median),"
            f" answered within {max(max(found.good_seconds) for found in overloads):.2f} s,"
            f" memory idle {idle / 2**20:.0f} MiB, highest {most_bytes / 2**20:.0f} MiB"
        )
        assert set(statuses) == {"200", "503"}
        assert sum(found.without_retry_after for found in overloads) == 0
        assert overloads[-1].offered_per_second > 9 * max(found.good_per_second for found in overloads)
        assert good >= 0.9 * peak
        assert most_bytes <= (idle + Limits().most_bytes) * 1.1
        assert server.workers == [worker]
        assert server.post(body)[0] == 200
