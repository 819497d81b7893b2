"""Nothing that is sent makes a 500 or ends the process: by our own OpenAPI document, and by bytes without a plan."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from server import Server
from test_answers import form, in_base64, picture
from test_limits import head

# Not `positive_data_acceptance`: which bytes are an image no schema can say. Not `negative_data_rejection`: an item of
# another type has its own error among the answers of a batch.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,missing_required_header,unsupported_method"
)


def check_by_schema(server: Server, folder: Path, examples: int, seed: int) -> None:
    (before,) = server.workers
    words = [sys.executable, "-m", "schemathesis.cli", "run", f"http://{server.host}:{server.port}/openapi.json"]
    words += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", str(seed)]
    words += ["--checks", CHECKS, "--continue-on-failure", "--no-color"]
    found = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600)
    print(*(line.strip() for line in found.stdout.splitlines() if "generated," in line))
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert server.workers == [before]


@pytest.mark.parametrize("kind", ["images", pytest.param("texts", marks=pytest.mark.slow)])
def test_answers_are_as_our_own_document_says(server: Server, text_server: Server, tmp_path: Path, kind: str) -> None:
    check_by_schema(server if kind == "images" else text_server, tmp_path, 8, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_answers_are_as_our_own_document_says_to_many_requests(
    server: Server, text_server: Server, tmp_path: Path, kind: str, seed: int
) -> None:
    check_by_schema(server if kind == "images" else text_server, tmp_path, 150, seed)


ODD = (b"\0", b"\r\n", b"\n", b"\xff\xfe", b"9" * 40, b"-1", b"%00", b"%ff", b"../", b"[" * 500, b'"', b"{}", b"1e999")


def sound_requests(name: str) -> list[tuple[str, str, bytes]]:
    """Path, content type and body of requests of every kind, which are then damaged."""
    read = {"name": "inputs", "datatype": "UINT8", "shape": [1, 3, 16, 16], "data": [1] * 768}
    bodies = [
        *((picture(form=kind), "image/png", "/predict") for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")),
        (picture(), "application/octet-stream", "/predict"),
        (*form(picture(), b"other"), "/predict/batch"),
        (*form(picture()), "/predict"),
        (json.dumps({"image": in_base64(picture())}).encode(), "application/json", "/predict"),
        (json.dumps({"pixels": [[[1, 2, 3]] * 16] * 16}).encode(), "application/json", "/predict"),
        (json.dumps({"images": [in_base64(picture()), 3, None]}).encode(), "application/json", "/predict/batch"),
        ('{"text": "很好吃，满意 \\ud83d\\ude00"}'.encode(), "application/json", "/predict"),
        ('{"texts": ["很好吃，满意", "", "a"]}'.encode(), "application/json", "/predict/batch"),
        ("很好吃，满意".encode(), "text/plain; charset=utf-8", "/predict"),
        (json.dumps({"id": "a", "inputs": [read]}).encode(), "application/json", f"/v2/models/{name}/infer"),
    ]
    return [(path, kind, body) for body, kind, path in bodies]


def whole(path: str, kind: str, body: bytes) -> bytes:
    return head(kind, f"Content-Length: {len(body)}", "Connection: close", path=path) + body


def other_requests(name: str) -> list[bytes]:
    """Without a body, with one in chunks, and one that asks for a web socket."""
    body = picture()
    chunked = b"%x;a=b\r\n%s\r\n0\r\nTrailer: a\r\n\r\n" % (len(body), body)
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\nSec-WebSocket-Version: 13"
    asked = (
        "GET /model/info?a=b",
        "GET /page/page.js",
        "HEAD /",
        "OPTIONS *",
        f"GET /v2/models/{name}",
        "GET /metrics",
    )
    return [
        head("image/png", "Transfer-Encoding: chunked", "Expect: 100-continue") + chunked,
        f"GET / HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n\r\n".encode(),
        *(f"{words} HTTP/1.1\r\nHost: a\r\nX-API-Key: b\r\n\r\n".encode() for words in asked),
    ]


def damage(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four changes: of a bit, of a number, of a piece that goes, comes twice or from elsewhere."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not out:
            break
        start = rng.randrange(len(out))
        stop = min(len(out), start + int(rng.expovariate(0.1)) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            out[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[start:stop]
        elif kind == 2:
            out[start:start] = out[start:stop] * rng.choice((1, 2, 50))
        elif kind == 3:
            other = rng.choice(others)
            place = rng.randrange(len(other))
            out[start:stop] = other[place : place + stop - start + 20]
        elif kind == 4:
            out[start:stop] = rng.randbytes(stop - start)
        elif kind == 5:
            out[start:start] = rng.choice(
                (
                    b"\0",
                    b"\r\n",
                    b"\n",
                    b"\xff\xfe",
                    b"9" * 40,
                    b"-1",
                    b"%00",
                    b"%ff",
                    b"../",
                    b"[" * 500,
                    b'"',
                    b"{}",
                    b"1e999",
                )
            )
        else:
            del out[start:]
    return bytes(out)


def answers_to(server: Server, data: bytes, *, is_ended: bool) -> bytes:
    """What comes until the service closes; it is told that nothing more comes where its length may be wrong."""
    with socket.create_connection((server.host, server.port), 20) as connection:
        found = b""
        try:
            connection.sendall(data)
            if is_ended:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                found += part
        except (BrokenPipeError, ConnectionResetError):
            pass
        return found


def check_by_bytes(server: Server, count: int, seed: int) -> None:
    (before,) = server.workers
    rng = random.Random(seed)
    name = server.ask("GET", "/model/info")[1]["models"][0]["name"]
    sound = sound_requests(name)
    requests = [*(whole(*one) for one in sound), *other_requests(name)]
    bodies = [body for _, _, body in sound]
    statuses: Counter[str] = Counter()
    for _ in range(count):
        if rng.random() < 0.6:
            path, type_of_body, body = rng.choice(sound)
            data = whole(path, type_of_body, damage(body, bodies, rng))
            answer = answers_to(server, data, is_ended=False)
        else:
            data = damage(rng.choice(requests), requests, rng)
            answer = answers_to(server, data, is_ended=True)
        status = answer[9:12].decode("ascii", "replace") if answer.startswith(b"HTTP/1.1 ") else "none"
        statuses[status] += 1
        assert b"HTTP/1.1 500" not in answer and b"Internal Server Error" not in answer, data
    print(f"{count} damaged requests: {dict(sorted(statuses.items()))}")
    assert server.workers == [before]
    assert server.ask("GET", "/readyz")[0] == 200
    assert {"200", "400", "422"} <= set(statuses)
    assert "Traceback" not in server.log, server.log[-3000:]


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_damaged_requests_make_no_failure(server: Server, text_server: Server, kind: str) -> None:
    check_by_bytes(server if kind == "images" else text_server, 1000, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_many_damaged_requests_make_no_failure(server: Server, text_server: Server, kind: str, seed: int) -> None:
    check_by_bytes(server if kind == "images" else text_server, 10_000, seed)
