"""`danlu.Client`: answers, and what it does where none comes."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from server import Server
from test_answers import picture

import danlu


def test_client_asks_by_path_bytes_pixels_and_text(
    server: Server, text_server: Server, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    pixels = np.zeros((16, 16, 3), np.uint8)
    with danlu.Client(f"http://{server.host}:{server.port}") as client:
        for item in (tmp_path / "a.png", str(tmp_path / "a.png"), picture()):
            assert client.predict(item)["class"] == "红"
        expected = danlu.load(images).predict([pixels])[0].label
        assert client.predict(pixels.tolist())["class"] == expected
        with pytest.raises(danlu.DataError, match="cannot read the input"):
            client.predict(b"no image")
        with pytest.raises(danlu.DataError, match=r"none\.png` cannot be read"):
            client.predict(Path("none.png"))
    with danlu.Client(f"http://{text_server.host}:{text_server.port}/") as client:
        assert client.predict("很好吃，满意")["class"] in ("0", "1")


def test_client_asks_for_many_inputs_in_as_many_requests_as_they_need(
    server: Server, text_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    pixels = np.zeros((16, 16, 3), np.uint8).tolist()
    with danlu.Client(f"http://{server.host}:{server.port}") as client:
        asked = []
        real = client._ask
        monkeypatch.setattr(client, "_ask", lambda *told: asked.append(told[1]) or real(*told))
        answers = client.predict_batch([tmp_path / "a.png", picture(), b"no image", str(tmp_path / "a.png")])
        assert [one.get("class") for one in answers] == ["红", "红", None, "红"]
        assert answers[2]["error"]["code"] == "unreadable"
        assert client.predict_batch([pixels, pixels])[0]["class"] == client.predict(pixels)["class"]
        assert client.predict_batch([]) == []
        asked.clear()
        assert len(client.predict_batch([picture(size=(4, 4))] * 300)) == 300
        assert asked == ["/predict/batch"] * 2
        asked.clear()
        assert len(client.predict_batch([picture(), b"x" * 2**20, picture()])) == 3
        assert asked == ["/predict/batch"] * 3
        with pytest.raises(danlu.ConfigError, match="a batch has inputs of one kind"):
            client.predict_batch([picture(), pixels])
    with danlu.Client(f"http://{text_server.host}:{text_server.port}/") as client:
        texts = ["很好吃，满意", "太慢了", "好" * 30_000] * 20
        answers = client.predict_batch(texts)
        assert [one["class"] for one in answers] == [client.predict(text)["class"] for text in texts]


def test_address_that_is_none_is_refused() -> None:
    with pytest.raises(danlu.ConfigError, match="is not an address of a service"):
        danlu.Client("localhost:8000")


def test_service_that_is_not_there_is_told_after_the_retries() -> None:
    client = danlu.Client("http://127.0.0.1:9", retries=1)
    with pytest.raises(danlu.MachineError, match="cannot be asked"):
        client.predict(b"x")


class Busy(http.server.BaseHTTPRequestHandler):
    """Busy twice, then an answer."""

    asked: list[float] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(time.monotonic())
        is_busy = len(self.asked) < 3
        body = json.dumps({"error": {"message": "busy"}} if is_busy else {"class": "a"}).encode()
        self.send_response(503 if is_busy else 200)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def busy() -> Iterator[str]:
    Busy.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_busy_service_is_asked_again_after_what_it_says(busy: str) -> None:
    with danlu.Client(busy) as client:
        assert client.predict(b"x") == {"class": "a"}
    pauses = np.diff(Busy.asked)
    assert len(pauses) == 2 and min(pauses) >= 1.0


def test_retries_end(busy: str) -> None:
    with danlu.Client(busy, retries=1) as client, pytest.raises(danlu.MachineError, match="gave no answer: busy"):
        client.predict(b"x")


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers with each of `script` in turn, a status and headers, or cuts the connection off after so many seconds;
    then with 200. `heard`: the headers of every request."""

    protocol_version = "HTTP/1.1"
    script: list[tuple[int, dict[str, str]] | float] = []
    heard: list[dict[str, str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append({name.lower(): value for name, value in self.headers.items()})
        turn = self.script.pop(0) if self.script else (200, {})
        if isinstance(turn, float):
            time.sleep(turn)
            self.close_connection = True
            return
        status, headers = turn
        body = json.dumps({"error": {"message": "told"}} if status != 200 else {"class": "a", "answers": [{}]}).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def scripted() -> Iterator[str]:
    Scripted.script, Scripted.heard = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited each time."""
    found: list[float] = []
    monkeypatch.setattr("danlu.serving.client.time", SimpleNamespace(sleep=found.append))
    return found


def test_keys_go_with_every_question(scripted: str) -> None:
    with danlu.Client(scripted, api_key="secret key") as client:
        client.predict(b"x", key="user 7")
        client.predict_batch([b"x"], key="user 7")
        client.predict(b"x")
    assert [told["x-api-key"] for told in Scripted.heard] == ["secret key"] * 3
    assert [told.get("x-sticky-key") for told in Scripted.heard] == ["user 7", "user 7", None]


def test_pauses_double_and_are_never_long(scripted: str, pauses: list[float]) -> None:
    Scripted.script = [*[(503, {})] * 3, (503, {"Retry-After": "86400"})]
    with danlu.Client(scripted) as client:
        assert client.predict(b"x")["class"] == "a"
    for turn, pause in enumerate(pauses[:3]):
        assert 0.05 * 2**turn <= pause <= 0.15 * 2**turn
    assert pauses[3:] == [30.0]


def test_connection_that_was_cut_off_is_opened_again(scripted: str, pauses: list[float]) -> None:
    Scripted.script = [(200, {}), 0.0]
    with danlu.Client(scripted) as client:
        assert [client.predict(b"x")["class"] for _ in range(2)] == ["a", "a"]
    assert len(Scripted.heard) == 3


def test_answer_that_does_not_come_in_time_is_asked_for_again(scripted: str, pauses: list[float]) -> None:
    Scripted.script = [0.5]
    with danlu.Client(scripted, timeout=0.2) as client:
        assert client.predict(b"x")["class"] == "a"
    assert len(Scripted.heard) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, danlu.MachineError), (401, danlu.ConfigError), (413, danlu.DataError), (422, danlu.DataError)],
)
def test_what_asking_again_does_not_change_is_not_asked_again(
    scripted: str, pauses: list[float], status: int, error: type[danlu.DanluError]
) -> None:
    Scripted.script = [(status, {})]
    with danlu.Client(scripted) as client, pytest.raises(error, match="told"):
        client.predict(b"x")
    assert len(Scripted.heard) == 1 and not pauses
