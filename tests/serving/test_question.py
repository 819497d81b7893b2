"""What a request takes before its body is there, and bodies that do not end as they should."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from danlu.serving.asked import Asked
from danlu.serving.bodies import IMAGE_LIMIT, JSON_LIMIT
from danlu.serving.front import Gone, Message
from danlu.serving.question import FORM, Question
from danlu.serving.refusal import Refusal

MIB = 2**20


def question(kind: str, length: bytes | None = None, messages: list[Message] | None = None) -> Question:
    """Of an arm whose lane gives as a place how many bytes were asked for."""
    headers = {b"content-length": length} if length is not None else {}
    arm: Any = SimpleNamespace(lane=SimpleNamespace(admitted=lambda size_bytes: size_bytes))
    left = list(messages or ())

    async def receive() -> Message:
        return left.pop(0)

    return Question(Asked("a", 0), arm, headers, kind, receive)


@pytest.mark.parametrize(
    ("kind", "length", "room"),
    [
        ("image/png", b"800", 900),
        (FORM, b"800", 2400),
        ("image/png", None, IMAGE_LIMIT * 9 // 8),
        ("application/json", None, JSON_LIMIT * 9 // 8),
        (FORM, None, 3 * IMAGE_LIMIT),
        ("image/png", b"99999999999", IMAGE_LIMIT * 9 // 8),
    ],
    ids=["a file", "a form is copied twice", "unknown", "unknown JSON", "unknown form", "more than is read"],
)
def test_room_is_taken_for_what_the_body_will_need(kind: str, length: bytes | None, room: int) -> None:
    assert question(kind, length).admitted() == room


def test_body_that_was_cut_off_is_no_body() -> None:
    """The first rows of an image would have an answer too, and one in the journal."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"12345", "more_body": True},
        {"type": "http.disconnect"},
    ]
    with pytest.raises(Gone):
        asyncio.run(question("image/png", b"10", messages).body())


def test_body_that_never_ends_is_thrown_away_for_a_while_only() -> None:
    parts: list[Message] = [{"type": "http.request", "body": bytes(MIB), "more_body": True} for _ in range(66)]
    with pytest.raises(Refusal) as refused:
        asyncio.run(question("image/png", None, parts).body())
    assert refused.value.status == 413


def form(count: int) -> list[Message]:
    part = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n'
    return [{"type": "http.request", "body": part * count + b"--X--\r\n", "more_body": False}]


@pytest.mark.parametrize(("count", "status"), [(0, 422), (1, None), (2, 422)])
def test_question_about_one_image_has_one_file(count: int, status: int | None) -> None:
    """The answer to the first of two would be taken for that to the second."""
    asking = question(FORM, None, form(count))
    asking.headers[b"content-type"] = b"multipart/form-data; boundary=X"
    asking.arm.predictor = SimpleNamespace(kind="images")  # type: ignore[misc, assignment]
    try:
        assert asyncio.run(asking.item()) == b"abc" and status is None
    except Refusal as refusal:
        assert refusal.status == status


def test_request_without_a_key_goes_where_its_id_belongs() -> None:
    """Without one, all of them would go to the same bundle."""
    keys: list[str] = []
    service: Any = SimpleNamespace(deployment=SimpleNamespace(choose=keys.append))

    async def receive() -> Message:
        return {}

    for key in (None, "user"):
        asked = Asked("request-7", 0, key)
        Question.of(service, {"asked": asked, "found_headers": {}}, receive)
    assert keys == ["request-7", "user"]
