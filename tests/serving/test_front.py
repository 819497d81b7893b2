"""What every request passes, without a network: the key, the id, the headers of answers and refusals, the counters."""

from __future__ import annotations

import asyncio
import base64
from types import SimpleNamespace
from typing import Any

import pytest

from danlu.serving.asked import Asked
from danlu.serving.front import Front, Gone, Message, Receive, Send
from danlu.serving.refusal import Refusal

KEY = "a-key-of-some-length"


class Asking:
    """A front before one route, `/predict`, that raises `error` or answers. `counted`: route and status of each
    request; `asked`: what the route knew of the last."""

    def __init__(self, error: BaseException | None = None, key: str | None = None, deadline: float = 5.0) -> None:
        self.counted: list[tuple[str, int]] = []
        self.asked: Asked | None = None

        def count(route: str, status: int, seconds: float) -> None:
            self.counted.append((route, status))

        async def route(scope: Message, receive: Receive) -> bytes:
            self.asked = scope["asked"]
            if error is not None:
                raise error
            return b"{}"

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        service: Any = SimpleNamespace(metrics=SimpleNamespace(request=count), new_id=lambda: "new")
        self.front = Front(app, {("POST", "/predict"): route}, service, key, deadline)

    def __call__(self, path: str = "/predict", **headers: str) -> tuple[int, dict[str, str]]:
        """The status and the headers, 0 and none where nothing was answered."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        asyncio.run(self.front({"type": "http", "method": "POST", "path": path, "headers": given}, receive, send))
        if not sent:
            return 0, {}
        return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x_api_key": ""}, 401),
        ({"x_api_key": KEY[:-1]}, 401),
        ({"x_api_key": KEY + "x"}, 401),
        ({"x_api_key": KEY.upper()}, 401),
        ({"x_api_key": KEY}, 200),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"Bearer {KEY}x"}, 401),
        ({"authorization": KEY}, 401),
        ({"authorization": basic(f"anybody:{KEY}")}, 200),
        ({"authorization": basic(f"{KEY}:")}, 401),
        ({"authorization": basic(KEY)}, 401),
        ({"authorization": "Basic ???"}, 401),
    ],
    ids=lambda value: "; ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_key_is_the_whole_key(headers: dict[str, str], status: int) -> None:
    assert Asking(key=KEY)(**headers)[0] == status


def test_browser_is_told_how_to_ask_for_the_key() -> None:
    assert Asking(key=KEY)()[1]["www-authenticate"].startswith("Basic realm=")


def test_refusal_says_when_to_come_again() -> None:
    assert Asking(Refusal(503, "busy", "busy", retry_after=7))()[1]["retry-after"] == "7"
    assert "retry-after" not in Asking(Refusal(422, "unreadable", "unreadable"))()[1]


def test_connection_ends_with_a_body_that_was_too_large() -> None:
    assert Asking(Refusal(413, "too_large", "too large"))()[1]["connection"] == "close"
    assert "connection" not in Asking(Refusal(422, "unreadable", "unreadable"))()[1]


@pytest.mark.parametrize("error", [None, Refusal(422, "unreadable", "unreadable"), KeyError("a mistake")], ids=repr)
def test_answers_of_every_kind_are_kept_nowhere_and_shown_in_no_frame(error: Exception | None) -> None:
    headers = Asking(error)()[1]
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-request-id"] == "new"


@pytest.mark.parametrize("id", ["order-7", "a" * 64])
def test_id_that_is_one_is_taken_over(id: str) -> None:
    assert Asking()(x_request_id=id)[1]["x-request-id"] == id


@pytest.mark.parametrize("id", ["", "a" * 65, "order 7", "order-7<script>", "order-7\n", "好"])
def test_id_that_is_none_is_not_repeated(id: str) -> None:
    assert Asking()(x_request_id=id)[1]["x-request-id"] == "new"


@pytest.mark.parametrize(
    ("error", "status", "counted"),
    [(None, 200, 200), (Refusal(503, "busy", "busy"), 503, 503), (KeyError("a mistake"), 500, 500), (Gone(), 0, 499)],
    ids=repr,
)
def test_every_request_is_counted_once_with_its_status(error: BaseException | None, status: int, counted: int) -> None:
    asking = Asking(error)
    assert asking()[0] == status
    assert asking.counted == [("/predict", counted)]


def test_paths_that_are_none_are_counted_together() -> None:
    """Or whoever asks for many would fill the memory of the counters."""
    asking = Asking()
    for number in range(3):
        assert asking(f"/no/{number}")[0] == 404
    assert asking.counted == [("other", 404)] * 3


def test_answer_is_late_after_the_deadline() -> None:
    asking = Asking(deadline=3.0)
    asking()
    assert asking.asked is not None and asking.asked.ends - asking.asked.started == pytest.approx(3.0)


def test_of_a_sticky_key_no_more_is_kept_than_tells_users_apart() -> None:
    asking = Asking()
    asking(x_sticky_key="u" * 5000)
    assert asking.asked is not None and asking.asked.key == "u" * 256
