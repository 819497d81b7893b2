"""What every request passes: its id, the API key, the headers of every answer, the counters, and what is answered where
something fails."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

from danlu.base import log
from danlu.serving.asked import Asked
from danlu.serving.refusal import Refusal
from danlu.serving.service import Service

OPEN = ("/livez", "/readyz")
JSON = "application/json"
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY),
]
GONE = 499  # counted where the client went before its answer
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_KEY_LIMIT = 256
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Direct = Callable[[Message, Receive], Awaitable[bytes]]


class Gone(Exception):
    """The client went before the answer."""


class Front:
    """`key`: None where anybody may ask. `direct`: routes without parameters whose answer is JSON, by method and path;
    they are asked without passing through `app`, which takes a third of the time of a request to a small model."""

    def __init__(
        self, app: App, direct: Mapping[tuple[str, str], Direct], service: Service, key: str | None, deadline: float
    ) -> None:
        self._app, self._direct, self._service, self._deadline = app, direct, service, deadline
        self._key = key.encode() if key is not None else None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = dict(scope["headers"]), scope["path"]
        asked = self._asked(headers, path)
        scope["asked"], scope["found_headers"] = asked, headers
        direct = self._direct.get((scope["method"], path))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS, (b"x-request-id", asked.id.encode())]
            await send(message)

        try:
            if path not in OPEN and not self._may_ask(headers):
                raise Refusal(401, "no_key", "the API key is missing or wrong")
            if direct is None:
                await self._app(scope, receive, answer)
            else:
                await _answer(answer, 200, await direct(scope, receive))
        except Gone:
            status = GONE
        except Refusal as refusal:
            await refuse(answer, refusal, asked)
        except Exception as error:
            log.failure(f"request {asked.id}", error)
            if not status:  # the application answers first, and raises then
                await refuse(answer, Refusal(500, "failed", "the service failed"), asked)
        route = path if direct is not None else _route(scope)
        self._service.metrics.request(route, status, time.monotonic() - asked.started)

    def _asked(self, headers: dict[bytes, bytes], path: str) -> Asked:
        given = headers.get(b"x-request-id", b"")
        now = time.monotonic()
        key = headers.get(b"x-sticky-key")
        return Asked(
            given.decode() if given and _ID.fullmatch(given) else self._service.new_id(),
            now + self._deadline,
            key[:_KEY_LIMIT].decode("latin-1") if key is not None else None,
            is_tensor=path.startswith("/v2"),
            started=now,
        )

    def _may_ask(self, headers: dict[bytes, bytes]) -> bool:
        """By `X-API-Key`, as a bearer, or as the password that a browser asks for."""
        if self._key is None:
            return True
        kind, _, rest = headers.get(b"authorization", b"").partition(b" ")
        given = headers.get(b"x-api-key", b"")
        if kind.lower() == b"bearer":
            given = rest.strip()
        elif kind.lower() == b"basic":
            try:
                given = base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        return hmac.compare_digest(given, self._key)


def told(refusal: Refusal, asked: Asked) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body of a refusal, and the headers that only it has."""
    problem: Any = {"code": refusal.code, "message": refusal.message, "id": asked.id}
    content = {"error": refusal.message if asked.is_tensor else problem}  # a string in the Open Inference Protocol
    headers: list[tuple[bytes, bytes]] = []
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(refusal.retry_after))).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="danlu", charset="UTF-8"'))
    if refusal.status == 413:
        headers.append((b"connection", b"close"))
    return to_json(content), headers


def to_json(content: Any) -> bytes:
    """The one way in which this service writes JSON."""
    return orjson.dumps(content)


async def refuse(send: Send, refusal: Refusal, asked: Asked) -> None:
    body, headers = told(refusal, asked)
    await _answer(send, refusal.status, body, headers)


async def _answer(send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body)), *(more or ())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _route(scope: Message) -> str:
    """The path of the route, which is one of a few; whatever is asked for otherwise counts together."""
    return str(getattr(scope.get("route"), "path", "other"))
