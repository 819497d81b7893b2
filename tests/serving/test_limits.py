"""What a client may send: sizes counted as they come, pixels before decoding, connections that are slow or too many."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from load import peak_bytes, resident_bytes, start_peak_anew
from PIL import Image
from server import Server
from slow_bundles import slowed
from test_answers import form, picture

from danlu.serving.app import Question
from danlu.serving.bodies import IMAGE_LIMIT, JSON_LIMIT
from danlu.serving.lane import Limits
from danlu.serving.refusal import Refusal

MIB = 2**20
CHUNK = 64 * 2**10
KINDS = {"image/png": IMAGE_LIMIT, "application/json": JSON_LIMIT, "multipart/form-data; boundary=X": IMAGE_LIMIT}


def spoken(server: Server, *parts: bytes | Iterable[bytes], seconds: float = 20.0) -> bytes:
    """What comes back on a connection on which `parts` are sent; a client that is cut off reads what came before."""
    with socket.create_connection((server.host, server.port), seconds) as connection:
        try:
            for part in parts:
                for data in [part] if isinstance(part, bytes) else part:
                    connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        found = b""
        while True:
            try:
                data = connection.recv(65_536)
            except ConnectionResetError:
                return found
            if not data:
                return found
            found += data
            if b"\r\n\r\n" in found and b"connection: close" not in found.lower():
                head, _, body = found.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                if len(body) >= length:
                    return found


def status_of(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def head(kind: str, *more: str, path: str = "/predict") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", f"Content-Type: {kind}", *more, "", ""]).encode()


def chunks(size: int, start: bytes = b"") -> Iterator[bytes]:
    yield from (b"%x\r\n%s\r\n" % (len(start), start) for _ in range(bool(start)))
    for _ in range(size // CHUNK):
        yield b"%x\r\n%s\r\n" % (CHUNK, b"a" * CHUNK)
    yield b"0\r\n\r\n"


@pytest.mark.parametrize("kind", KINDS)
def test_body_without_a_length_is_counted_as_it_comes(server: Server, kind: str) -> None:
    told = spoken(server, head(kind, "Transfer-Encoding: chunked"), chunks(KINDS[kind] + 4 * CHUNK))
    assert status_of(told) == 413
    assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_large"


def test_body_in_chunks_that_is_not_too_large_is_read(server: Server) -> None:
    data = picture()
    parts = [b"%x\r\n%s\r\n" % (len(data[i : i + 7]), data[i : i + 7]) for i in range(0, len(data), 7)]
    told = spoken(server, head("image/png", "Transfer-Encoding: chunked"), parts, b"0\r\n\r\n")
    assert status_of(told) == 200


@pytest.mark.parametrize(
    ("kind", "size", "status"),
    [
        ("image/png", IMAGE_LIMIT, 422),
        ("image/png", IMAGE_LIMIT + 1, 413),
        ("application/json", JSON_LIMIT, 400),
        ("application/json", JSON_LIMIT + 1, 413),
        ("text/plain", JSON_LIMIT, 415),
        ("text/plain", JSON_LIMIT + 1, 413),
    ],
)
def test_limit_is_exact(server: Server, kind: str, size: int, status: int) -> None:
    assert status_of(spoken(server, head(kind, f"Content-Length: {size}"), b"a" * size)) == status


@pytest.mark.parametrize(
    "lengths",
    [
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Content-Length: " + "9" * 30,),
        ("Content-Length: " + "9" * 5000,),
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip",),
    ],
    ids=lambda lengths: " and ".join(one[:24] for one in lengths),
)
def test_length_that_is_none_is_refused(server: Server, lengths: tuple[str, ...]) -> None:
    assert status_of(spoken(server, head("image/png", *lengths), b"abc")) == 400


def test_more_than_the_length_is_another_request_and_less_ends_with_the_client(server: Server) -> None:
    data = picture()
    both = spoken(server, head("image/png", f"Content-Length: {len(data)}", "Connection: close"), data + b"nonsense")
    assert status_of(both) == 200
    with socket.create_connection((server.host, server.port), 5) as connection:
        connection.sendall(head("image/png", f"Content-Length: {len(data)}") + data[:-1])
    assert server.post(data)[0] == 200


@pytest.mark.parametrize("size", [IMAGE_LIMIT + 1, 60 * MIB])
def test_client_that_asks_first_sends_nothing(server: Server, size: int) -> None:
    told = spoken(server, head("image/png", f"Content-Length: {size}", "Expect: 100-continue"))
    assert status_of(told) == 413


def grown_by_a_large_body(server: Server, *lines: str, parts: Iterable[bytes] | None = None, turns: int = 4) -> int:
    """Bytes by which the process was larger, at its largest, than before 32 MiB came: the least of several turns, since
    the allocator's own moods come on top."""
    (worker,) = server.workers
    found = []
    for _ in range(4):
        before = resident_bytes(worker)
        start_peak_anew(worker)
        body = chunks(32 * MIB) if parts is None else parts
        assert status_of(spoken(server, head("image/png", *lines), body)) == 413
        found.append(peak_bytes(worker) - before)
    print("peak above the memory before, in KiB: " + ", ".join(f"{one / 1024:,.0f}" for one in found))
    return min(found[1:])  # the first time the process also learns to do it


def test_body_that_tells_it_is_too_large_is_not_kept(images: Path, tmp_path: Path) -> None:
    with Server([images], tmp_path, "--workers", 1, "--journal", "-") as server:
        grown = grown_by_a_large_body(server, f"Content-Length: {32 * MIB}", parts=[bytes(CHUNK)] * 512)
    assert grown <= 2 * MIB


def test_body_that_turns_out_too_large_takes_no_more_than_the_limit(images: Path, tmp_path: Path) -> None:
    with Server([images], tmp_path, "--workers", 1, "--journal", "-") as server:
        assert grown_by_a_large_body(server, "Transfer-Encoding: chunked") <= IMAGE_LIMIT + 2 * MIB


def png(width: int, height: int, data: bytes = b"", more: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """10 MiB that claim 60,000 × 60,000 pixels and hold 10 GB of zeros."""
    packed = zlib.compressobj(1)
    part = packed.compress(bytes(50 * MIB)) + packed.flush(zlib.Z_FULL_FLUSH)
    return png(60_000, 60_000, (part * (10 * MIB // len(part) + 1))[: 10 * MIB - 200])


def test_pixels_are_limited_before_they_are_decoded(images: Path, tmp_path: Path, bomb: bytes) -> None:
    with Server([images], tmp_path, "--workers", 1, "--journal", "-") as server:
        (worker,) = server.workers
        server.post(b"a" * len(bomb))
        start_peak_anew(worker)
        before, started = resident_bytes(worker), time.monotonic()
        for data in (png(60_000, 60_000), bomb):
            status, answer = server.post(data)
            assert (status, answer["error"]["code"]) == (422, "unreadable")
            assert "60,000 × 60,000 pixels, more than the limit of 50,000,000" in answer["error"]["message"]
        took, grown = time.monotonic() - started, peak_bytes(worker) - before
        print(f"two bombs refused in {1000 * took:.0f} ms, {grown / MIB:.1f} MiB")
        assert took < 2 and grown < 3 * IMAGE_LIMIT
        assert server.workers == [worker]


def test_small_file_of_many_pixels_holds_up_nobody(server: Server) -> None:
    """49 million pixels in 6 kB are decoded beside the requests of others."""
    out = io.BytesIO()
    Image.new("1", (7000, 7000)).save(out, "PNG", optimize=True)
    data = out.getvalue()
    assert len(data) < 16 * 2**10
    with ThreadPoolExecutor(1) as other:
        server.post(picture())
        slow = other.submit(lambda: (server.post(data)[0], time.monotonic()))
        waited = []
        while not slow.done():
            started = time.monotonic()
            assert server.ask("GET", "/livez")[0] == 200
            waited.append(time.monotonic() - started)
    print(f"{len(data):,} bytes; longest wait of another request {1000 * max(waited):.0f} ms of {len(waited)}")
    assert slow.result()[0] == 200
    assert len(waited) > 20  # in the event loop it was one


def test_json_of_long_texts_beside_numbers_takes_no_memory(server: Server) -> None:
    """numpy would give each number the room of the longest text."""
    (worker,) = server.workers
    rows: list[Any] = ["a" * 100_000, *[1] * 100_000]
    name = server.ask("GET", "/model/info")[1]["models"][0]["name"]
    tensor = {"name": "inputs", "datatype": "UINT8", "shape": [1, 3, 16, 16], "data": rows}
    for path, content in (("/predict", {"pixels": [rows]}), (f"/v2/models/{name}/infer", {"inputs": [tensor]})):
        start_peak_anew(worker)
        before = resident_bytes(worker)
        status, _ = server.post(content, path)
        grown = peak_bytes(worker) - before
        print(f"{path}: {grown / MIB:.0f} MiB")
        assert status in (400, 422)
        assert grown < 64 * MIB
    assert server.workers == [worker]


def flat(megapixels: int) -> bytes:
    """A file of a few bytes that takes long to decode."""
    out = io.BytesIO()
    Image.new("RGBA", (megapixels * 1000, 1000)).save(out, "WEBP", lossless=True, method=0)
    return out.getvalue()


@pytest.mark.slow  # it times a hundred clients, for which other tests leave no processor
def test_images_that_would_be_read_too_late_are_refused(images: Path, tmp_path: Path) -> None:
    """What waits to be decoded is bounded by time as what waits for the model is, and late ones are not decoded."""
    data = flat(7)
    with Server([images], tmp_path, "--workers", 1, "--journal", "-", deadline=1.0) as server:
        for _ in range(8):
            assert server.post(data)[0] == 200
        started = time.monotonic()
        with ThreadPoolExecutor(100) as clients:
            statuses = list(clients.map(lambda _: server.post(data)[0], range(100)))
        took = time.monotonic() - started
    print(f"100 images at once: {statuses.count(200)} answered, {statuses.count(503)} refused, in {took:.2f} s")
    assert set(statuses) == {200, 503} and statuses.count(200) >= 3
    assert took < 1 + 1


@pytest.mark.slow
@pytest.mark.parametrize(("form", "mode"), [("WEBP", "RGBA"), ("PNG", "RGBA"), ("PNG", "LA"), ("GIF", "P")])
def test_images_of_the_most_pixels_stay_within_the_budget(images: Path, tmp_path: Path, form: str, mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (7070, 7070)).save(out, form, **({"lossless": True, "method": 0} if form == "WEBP" else {}))
    with Server([images], tmp_path, "--workers", 1, "--journal", "-") as server:
        (worker,) = server.workers
        server.post(picture())
        idle = resident_bytes(worker)
        start_peak_anew(worker)
        with ThreadPoolExecutor(6) as clients:
            statuses = list(clients.map(lambda _: server.post(out.getvalue())[0], range(6)))
        most = peak_bytes(worker)
        print(
            f"6 images of 50 million pixels at once, {form} {mode}, {len(out.getvalue()):,} bytes each:"
            f" {statuses.count(200)} answered; memory idle {idle / MIB:.0f} MiB, highest {most / MIB:.0f} MiB"
        )
        assert set(statuses) <= {200, 503} and 200 in statuses and server.workers == [worker]
        assert most <= idle + 1.1 * (Limits().most_decoded_bytes + 6 * len(out.getvalue()))


def test_where_memory_is_scarce_images_that_need_much_of_it_are_refused(images: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (4000, 4000)).save(out, "WEBP", lossless=True, method=0)
    options = ("--workers", 1, "--journal", "-")
    with Server([images], tmp_path, *options, most_decoded_bytes=64 * MIB) as server:
        (worker,) = server.workers
        assert server.post(picture(size=(2000, 2000)))[0] == 200
        start_peak_anew(worker)
        before = resident_bytes(worker)
        status, answer = server.post(out.getvalue())
        assert (status, answer["error"]["code"]) == (413, "too_many_pixels")
        assert answer["error"]["message"] == (
            "decoding this image takes up to 305 MiB of memory, and here it may take 64: send it smaller"
        )
        assert peak_bytes(worker) - before < 4 * MIB
        assert "an image may take 64 MiB of memory to be decoded" in server.log


@pytest.mark.slow
def test_large_images_that_wait_stay_within_the_budget(images: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=1)
    data = out.getvalue()
    assert 9 * MIB < len(data) < IMAGE_LIMIT
    bundle = slowed(images, tmp_path / "bundle", steps_per_example=3000)
    with Server([bundle], tmp_path, "--workers", 1, "--journal", "-") as server:
        (worker,) = server.workers
        server.post(data)
        server.ask("POST", "/predict", *form(data))
        time.sleep(1)
        idle = resident_bytes(worker)
        start_peak_anew(worker)
        with ThreadPoolExecutor(60) as clients:
            ways = [lambda: server.post(data)[0], lambda: server.ask("POST", "/predict", *form(data))[0]]
            found = [clients.submit(ways[place % 2]) for place in range(240)]
            statuses = [one.result() for one in found]
        most = peak_bytes(worker)
        print(
            f"240 images of {len(data) / MIB:.1f} MiB from 60 clients: {statuses.count(200)} answered,"
            f" {statuses.count(503)} refused; memory idle {idle / MIB:.0f} MiB, highest {most / MIB:.0f} MiB"
        )
        assert set(statuses) <= {200, 503}
        assert most <= (idle + Limits().most_bytes) * 1.1


DRIP = """
import socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def opened():
    one = socket.create_connection((host, port), 10)
    one.setblocking(False)
    one.send(b"GET /livez HTTP/1.1\\r\\nHost: a\\r\\nX-Slow: ")
    return one
sockets = [opened() for _ in range(count)]
print("open", flush=True)
again = 0
while True:
    for place in range(count):
        try:
            sockets[place].send(b"a")
        except OSError:
            sockets[place].close()
            sockets[place] = opened()
            again += 1
        time.sleep(2 / count)
"""


@pytest.mark.slow
def test_slow_clients_slow_down_no_other(images: Path, tmp_path: Path) -> None:
    with Server([images], tmp_path, "--workers", 1, "--journal", "-") as server:
        (worker,) = server.workers
        body = picture(size=(16, 16))

        def timed(count: int) -> list[float]:
            taken = []
            connection = server.connect()
            for _ in range(count):
                started = time.perf_counter()
                connection.request("POST", "/predict", body, {"Content-Type": "image/png"})
                response = connection.getresponse()
                response.read()
                assert response.status == 200
                taken.append(time.perf_counter() - started)
            connection.close()
            return taken

        def p99(taken: list[float]) -> float:
            return 1000 * statistics.quantiles(taken, n=100)[98]

        timed(500)
        without: list[float] = []
        beside: list[float] = []
        for _ in range(8):  # in turn: other work on the machine slows down both
            without += timed(500)
            words = [sys.executable, "-c", DRIP, server.host, str(server.port), "500"]
            with subprocess.Popen(words, stdout=subprocess.PIPE, preexec_fn=lambda: os.nice(10)) as dripping:
                try:
                    assert dripping.stdout is not None
                    assert dripping.stdout.readline() == b"open\n"
                    time.sleep(0.5)
                    beside += timed(500)
                    connected = len(list(Path(f"/proc/{worker}/fd").iterdir()))
                finally:
                    dripping.kill()
            assert connected > 500
            time.sleep(0.5)
        print(f"p99 of a normal client {p99(without):.2f} ms, beside 500 slow ones {p99(beside):.2f} ms")
        assert p99(beside) <= 2 * p99(without)
        assert server.workers == [worker]


def test_too_many_connections_are_told_so(images: Path, tmp_path: Path) -> None:
    data = picture()
    with Server([images], tmp_path, "--workers", 1, "--journal", "-", most_connections=20) as server:
        idle = [socket.create_connection((server.host, server.port), 10) for _ in range(20)]
        time.sleep(0.3)
        request = head("image/png", f"Content-Length: {len(data)}") + data
        answers = [spoken(server, request) for _ in range(50)]
        assert [status_of(answer) for answer in answers] == [503] * 50
        assert all(b"\r\nretry-after: 1\r\n" in answer for answer in answers)
        with ThreadPoolExecutor(20) as clients:
            many = list(
                clients.map(
                    lambda _: status_of(spoken(server, head("image/png", f"Content-Length: {MIB}"), bytes(MIB))),
                    range(60),
                )
            )
        print(f"60 bodies of 1 MiB at the cap: {many.count(503)} told 503")
        assert many == [503] * 60
        for one in idle:
            one.close()
        time.sleep(0.3)
        assert server.post(data)[0] == 200


def traced(size: int, part: int) -> tuple[int, int]:
    """The status for a body that comes in such parts without telling its length, and the most memory it took."""
    left = size

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= part
        return {"type": "http.request", "body": bytes(part), "more_body": left > 0}

    async def measured() -> tuple[int, int]:
        status = 200
        tracemalloc.start()  # here, so that the event loop's own memory does not count
        try:
            await Question(None, None, {}, "image/png", receive).body()  # type: ignore[arg-type]
        except Refusal as refusal:
            status = refusal.status
        finally:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return status, most

    return asyncio.run(measured())


def test_body_that_comes_in_single_bytes_takes_no_more_room() -> None:
    status, most = traced(300_000, 1)
    assert status == 200 and most < 3 * 300_000


@pytest.mark.parametrize("part", [1000, 32 * 2**10])
def test_what_is_kept_of_a_body_is_no_more_than_the_limit(part: int) -> None:
    """And the part that is in the hand, which is the client's to choose: with 64 KiB it is 7.7 KiB more."""
    status, most = traced(32 * MIB, part)
    print(f"{most / 1024:,.0f} KiB")
    assert status == 413 and most <= IMAGE_LIMIT + 64 * 2**10
