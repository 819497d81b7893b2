"""A request for answers: who asks, which bundle answers, and what its body holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from danlu.serving.asked import Asked
from danlu.serving.bodies import byte_limit, check_count, item_of_json, items_of_json
from danlu.serving.deployment import Arm
from danlu.serving.front import JSON, Gone, Message, Receive
from danlu.serving.lane import Place
from danlu.serving.refusal import Refusal
from danlu.serving.service import Service

FORM = "multipart/form-data"
MOST_THROWN = 64 * 2**20
BESIDE = 8  # an eighth more room: for what was read from the socket and not taken yet, and for joining the pieces
PIECE = 16 * 2**10
FORM_COPIES = 3  # of a form's bytes, at one time: the body, what the parser cuts out of it, and the file
T = TypeVar("T")


@dataclass(slots=True)
class Question:
    """`headers`: the last of each name. `kind`: the content type, without parameters. The body is still to come."""

    asked: Asked
    arm: Arm
    headers: dict[bytes, bytes]
    kind: str
    receive: Receive

    @classmethod
    def of(cls, service: Service, scope: Message, receive: Receive, arm: Arm | None = None) -> Question:
        """Raises `Refusal` for a compressed body."""
        asked, headers = scope["asked"], scope["found_headers"]
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refusal(415, "encoded", "compressed bodies are not read")
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        return cls(asked, arm or service.deployment.choose(asked.key or asked.id), headers, kind, receive)

    def admitted(self) -> Place:
        """A place for the bytes the body will need; as many as it may have where it does not tell, or tells more.

        Raises `Refusal` where there is none, or a client asks first whether it may send too much.
        """
        limit, told = byte_limit(self.kind), self.headers.get(b"content-length")
        size = int(told) if told is not None and told.isdigit() else limit
        if size > limit and b"expect" in self.headers:
            raise _too_large(limit)
        room = min(size, limit)
        return self.arm.lane.admitted(room * FORM_COPIES if self.kind == FORM else room + room // BESIDE)

    async def body(self) -> bytes:
        """The whole body, counted while it comes. Raises `Refusal` and `Gone`.

        Of a body that is too large the rest is thrown away as it comes, for a while: a connection that is closed while
        its client still sends is reset, and the client never sees why.
        """
        limit, found, thrown = byte_limit(self.kind), _Pieces(), 0
        told = self.headers.get(b"content-length", b"")
        is_too_large = told.isdigit() and int(told) > limit
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            data = message.get("body", b"")
            is_last = not message.get("more_body", False)
            if is_too_large or found.size + len(data) > limit:
                is_too_large = True
                thrown += found.size + len(data)
                found = _Pieces()
                if is_last or thrown > MOST_THROWN:
                    raise _too_large(limit)
                continue
            if is_last and not found.size:
                return bytes(data)
            found.add(data)
            if is_last:
                return found.whole()

    async def awaited(self, answering: Awaitable[T]) -> T:
        """The answer; where it waits in a queue, it leaves the queue when the client goes."""
        if not self.arm.lane.is_queued:
            return await answering
        watching = asyncio.ensure_future(self._watch())
        try:
            return await answering
        finally:
            watching.cancel()

    async def item(self) -> Any:
        """What the body holds, as the predictor reads it. Raises `Refusal` and `Gone`."""
        predictor, body = self.arm.predictor, await self.body()
        if self.kind == JSON:
            return item_of_json(body, predictor.recipe)
        if predictor.kind == "texts" and self.kind == "text/plain":
            return _text(body)
        if predictor.kind == "images":
            if self.kind == FORM:
                found = await _files(body, self.headers)
                if len(found) != 1:
                    raise Refusal(422, "wrong_count", f"the form has {len(found)} files, one is expected")
                return found[0]
            if self.kind == "application/octet-stream" or self.kind.startswith("image/"):
                return body
        raise _not_read(predictor.kind)

    async def items(self) -> list[Any]:
        """As `item`, of a body that holds several."""
        predictor, body = self.arm.predictor, await self.body()
        if self.kind == JSON:
            return items_of_json(body, predictor.recipe)
        if predictor.kind == "images" and self.kind == FORM:
            found: list[Any] = await _files(body, self.headers)
            check_count(len(found))
            return found
        raise _not_read(predictor.kind)

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.asked.is_gone = True


class _Pieces:
    """What came of a body so far, in no more room than it needs: one bytearray would grow by an eighth too much, and a
    list of a million bytes would be as many objects."""

    def __init__(self) -> None:
        self.size = 0
        self._full: list[bytes] = []
        self._last = bytearray()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if len(data) >= PIECE and not self._last:
            self._full.append(data)
            return
        self._last += data
        if len(self._last) >= PIECE:
            self._full.append(bytes(self._last))
            self._last.clear()

    def whole(self) -> bytes:
        return b"".join([*self._full, self._last])


async def _files(body: bytes, headers: dict[bytes, bytes]) -> list[bytes]:
    async def once() -> Any:
        yield body

    try:
        form = await MultiPartParser(Headers(raw=list(headers.items())), once(), max_files=256, max_fields=16).parse()
    except (MultiPartException, KeyError, ValueError):
        raise Refusal(400, "not_a_form", "the multipart form cannot be read") from None
    try:
        return [await value.read() for _, value in form.multi_items() if not isinstance(value, str)]
    finally:
        await form.close()


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(400, "not_utf8", "the body is not UTF-8") from None


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "too_large", f"the body is larger than {limit // 2**20} MiB")


def _not_read(kind: str) -> Refusal:
    read = "an image file or form or JSON" if kind == "images" else "JSON or plain text"
    return Refusal(415, "wrong_type", f"this service reads {read}")
