"""What no answer tells, whatever was sent: the input, a secret, a path, the host, the inside of the service."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from server import Server
from slow_bundles import FAILS_AT, slowed
from test_answers import form, in_base64, picture
from test_limits import png, spoken

CANARY = "cnry7Zq3"
NUMBER = "7340917340"  # one that nothing else tells
KEY = "key-of-cnry7Zq3-and-more"
INSIDE = (
    "Traceback",
    "site-packages",
    "/src/",
    ".py",
    "Error:",
    "0x7f",
    "<_io",
    "onnx",
    "errno",
    "/tmp",
    "/home",
    "/root",
)


@pytest.fixture(scope="module")
def failing(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a key, whose model fails at a colour, in a folder whose name is a canary."""
    folder = tmp_path_factory.mktemp(f"secret-{CANARY}")
    (folder / "key").write_text(KEY, encoding="utf-8")
    bundle = slowed(images, folder / f"bundle-{CANARY}", steps_per_call=40)
    with Server([bundle], folder, "--workers", 1, "--api-key-file", "key", "--journal", "-") as found:
        yield found


@pytest.fixture(scope="module")
def guarded_texts(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(f"texts-{CANARY}")
    (folder / "key").write_text(KEY, encoding="utf-8")
    with Server([texts], folder, "--workers", 1, "--api-key-file", "key", "--journal", "-") as found:
        yield found


def png_chunk(kind: bytes, content: bytes, *, is_sound: bool = True) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content) ^ (not is_sound))
    )


def damaged() -> dict[str, bytes]:
    """Files whose own bytes a decoder's message may repeat."""
    told = CANARY.encode()
    whole, jpeg, gif = picture(), picture(form="JPEG"), picture(form="GIF")
    notes = PngInfo()
    notes.add_text(CANARY, CANARY * 50, zip=True)
    out = io.BytesIO()
    Image.new("RGB", (9, 9)).save(out, "PNG", pnginfo=notes)
    bmp = picture(form="BMP")
    return {
        "text": told,
        "html": b"<!doctype html>" + told,
        "chunk name": whole[:33] + b"\0\0\0\4" + b"cnry" + told,
        "chunk with a wrong sum": whole[:33] + png_chunk(b"cnRY", told, is_sound=False) + whole[33:],
        "text chunk with a wrong sum": whole[:33] + png_chunk(b"tEXt", told, is_sound=False) + whole[33:],
        "text chunk": out.getvalue()[:-20],
        "packed text that is none": png(9, 9, zlib.compress(bytes(90)), png_chunk(b"zTXt", told + b"\0\7" + told)),
        "colour profile": png(9, 9, zlib.compress(bytes(90)), png_chunk(b"iCCP", told + b"\0\0" + told)),
        "transparency": png(9, 9, told),
        "jpeg comment": jpeg[:2] + b"\xff\xfe\0\x0a" + told + jpeg[2:200],
        "jpeg marker": jpeg[:20] + told + jpeg[28:],
        "gif comment": gif[:13] + b"\x21\xfe\x08" + told,
        "bmp depth": bmp[:28] + struct.pack("<H", 7340) + bmp[30:],
        "bmp compression": bmp[:30] + struct.pack("<I", 73409173) + bmp[34:],
        "webp": b"RIFF\x40\0\0\0WEBPVP8 " + told * 8,
        "tiff": b"II*\0" + told * 4,
    }


def faulty(path: str) -> Iterator[tuple[str, str, bytes, str, dict[str, str]]]:
    """Method, path, body, type and headers of requests with a canary in each place."""
    read = {"name": "inputs", "datatype": "UINT8", "shape": [1, 3, 16, 16], "data": [1] * 768}
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE", CANARY.upper()):
        yield method, f"/{CANARY}", b"", "", {}
        yield method, f"/livez?{CANARY}", b"", "", {}
        yield method, f"/predict/{CANARY}?{CANARY}={CANARY}", b"", "", {}
    for place in ("/page/", "/v2/models/", "/predict/../", "/page/%2e%2e/", "//", "/%00", "/%ff"):
        yield "GET", f"{place}{CANARY}", b"", "", {}
    yield "POST", f"/v2/models/{CANARY}/infer", b"{}", "application/json", {}
    for name in ("Accept", "Cookie", "Referer", "User-Agent", "Origin", "X-Sticky-Key", "X-Forwarded-For", "Range"):
        yield "POST", "/predict", b"", "image/png", {name: CANARY}
    yield "POST", "/predict", b"", "image/png", {"X-Request-ID": f"<{CANARY}>"}
    yield "GET", "/livez", b"", "", {"Host": f"{CANARY}.example"}
    yield "GET", f"/livez/?{CANARY}", b"", "", {"Host": f"{CANARY}.example"}
    yield "POST", "/predict", b"a", f"{CANARY}/{CANARY}", {}
    yield "POST", "/predict", b"a", f"application/json; charset={CANARY}", {}
    yield "POST", "/predict", b"a", f"multipart/form-data; boundary={CANARY}", {}
    yield (
        "POST",
        "/predict",
        form(CANARY.encode())[0].replace(b"0.png", CANARY.encode()),
        "multipart/form-data; boundary=X",
        {},
    )
    yield "POST", "/predict", form(b"")[0].replace(b"form-data", CANARY.encode()), "multipart/form-data; boundary=X", {}
    yield "POST", "/predict", b"a", "image/png", {"Content-Encoding": CANARY}
    for target in ("/predict", "/predict/batch", path):
        for content in (
            f'{{"{CANARY}": "{CANARY}"}}',
            f'{{"image": "{CANARY}!"}}',
            f'{{"image": "data:{CANARY},{CANARY}"}}',
            f'{{"images": ["{CANARY}", {NUMBER}, null, {{"{CANARY}": 1}}, ["{CANARY}"]]}}',
            f'{{"pixels": [["{CANARY}"]]}}',
            f'{{"pixels": [[{NUMBER}]]}}',
            f'{{"texts": ["", {NUMBER}]}}',
            f'{{"text": {{"{CANARY}": 1}}}}',
            f'["{CANARY}"]',
            f'"{CANARY}',
            f'{{"a": {CANARY}}}',
            f'{{"{CANARY}": 1, "{CANARY}": 2}}',
            json.dumps({"inputs": [{CANARY: CANARY}]}),
            json.dumps({"inputs": [{**read, "name": CANARY}]}),
            json.dumps({"inputs": [{**read, "datatype": CANARY}]}),
            json.dumps({"inputs": [{**read, "shape": [CANARY]}]}),
            json.dumps({"inputs": [{**read, "shape": [int(NUMBER), 3, 16, 16]}]}),
            json.dumps({"inputs": [{**read, "data": [CANARY] * 768}]}),
            json.dumps({"inputs": [{**read, "data": [int(NUMBER)] * 768}]}),
            json.dumps({"inputs": [read], "id": [CANARY]}),
        ):
            yield "POST", target, content.encode(), "application/json", {}
    for content in damaged().values():
        yield "POST", "/predict", content, "image/png", {}
        yield "POST", "/predict", *form(content), {}
        yield "POST", "/predict/batch", json.dumps({"images": [in_base64(content)]}).encode(), "application/json", {}
    yield "POST", "/predict", picture(FAILS_AT, (16, 16)), "image/png", {}
    yield "POST", "/predict/batch", *form(picture(FAILS_AT, (16, 16)), name=CANARY), {}


def check_silent(server: Server, answer: bytes, what: object) -> None:
    told = answer.decode("utf-8", "replace")
    lower = told.lower()
    secrets = [CANARY, "cnry", NUMBER, "7340", KEY, str(server.folder), socket.gethostname(), *INSIDE]
    found = [secret for secret in secrets if secret.lower() in lower]
    assert found == [], (what, told[:600])


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_no_answer_tells_what_was_sent_or_what_is_inside(failing: Server, guarded_texts: Server, kind: str) -> None:
    server = failing if kind == "images" else guarded_texts
    name = server.ask("GET", "/model/info", X_API_Key=KEY)[1]["models"][0]["name"]
    count, statuses = 0, set()
    for method, path, body, type_of_body, headers in faulty(f"/v2/models/{name}/infer"):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {headers.pop('Host', 'a')}", "Connection: close"]
        lines += [f"Content-Length: {len(body)}", *([f"Content-Type: {type_of_body}"] if type_of_body else [])]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        for key in ([f"X-API-Key: {KEY}"], [f"X-API-Key: {CANARY}"], [f"Authorization: Basic {CANARY}"], []):
            answer = spoken(server, "\r\n".join([*lines, *key, "", ""]).encode() + body)
            assert answer.startswith(b"HTTP/1.1 "), (method, path, headers)
            check_silent(server, answer, (method, path, body[:80], headers, key))
            statuses.add(int(answer[9:12]))
            count += 1
    print(f"{count} requests with canaries, statuses {sorted(statuses)}: none told")
    assert {400, 401, 404, 405, 415, 422} <= statuses
    assert KEY not in server.log


def test_broken_headers_tell_nothing(failing: Server) -> None:
    told = CANARY.encode()
    for raw in (
        told + b"\r\n\r\n",
        b"GET " + told + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9 " + told + b"\r\n\r\n",
        b"GET /\xff" + told + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + told + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + told + b" : b\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: " + told + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-API-Key: "
        + KEY.encode()
        + b"\r\n\r\n"
        + told,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + told * 10_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\nX: " + told + b"\r\n\r\n",
    ):
        answer = spoken(failing, raw)
        assert answer.startswith(b"HTTP/1.1 4"), raw[:60]
        check_silent(failing, answer, raw[:60])


def test_failure_of_the_model_tells_only_the_id_of_the_request(failing: Server) -> None:
    status, answer = failing.post(picture(FAILS_AT, (16, 16)), X_API_Key=KEY)
    assert status == 500
    assert answer == {"error": {"code": "failed", "message": "the model could not answer", "id": answer["error"]["id"]}}
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", answer["error"]["id"])
    assert "the model answers 1 of 1 inputs with NaN" in failing.log
