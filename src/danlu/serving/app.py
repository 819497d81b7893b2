"""The routes. The only file that imports FastAPI."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from danlu import __version__
from danlu.base import log
from danlu.serving import documented, tensors
from danlu.serving.asked import Asked
from danlu.serving.bodies import byte_limit, check_count, item_of_json, items_of_json
from danlu.serving.deployment import Arm
from danlu.serving.lane import Place
from danlu.serving.refusal import Refusal
from danlu.serving.service import Service

OPEN = ("/livez", "/readyz")
SCRIPT = "text/javascript; charset=utf-8"
PAGE = {"page.css": "text/css; charset=utf-8", "page.js": SCRIPT, "docs.js": SCRIPT}
JSON, FORM = "application/json", "multipart/form-data"
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
MOST_THROWN = 64 * 2**20
OIP = "Open Inference Protocol v2"
GONE = 499  # counted where the client went before its answer
CODES = {404: "not_found", 405: "wrong_method"}
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_KEY_LIMIT = 256
T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gone(Exception):
    """The client went before the answer."""


class Front:
    """What every request passes: its id, the API key, the headers of every answer, the counters, and what is answered
    where something fails. `key`: None where anybody may ask."""

    def __init__(self, app: FastAPI, service: Service, key: str | None, deadline: float) -> None:
        self._app, self._service, self._deadline = app, service, deadline
        self._key = key.encode() if key is not None else None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        asked = self._asked(headers, scope["path"])
        scope["asked"], scope["found_headers"] = asked, headers
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS, (b"x-request-id", asked.id.encode())]
            await send(message)

        try:
            if scope["path"] not in OPEN and not self._may_ask(headers):
                raise Refusal(401, "no_key", "the API key is missing or wrong")
            await self._app(scope, receive, answer)
        except Gone:
            status = GONE
        except Refusal as refusal:
            await _refuse(answer, refusal, asked)
        except Exception as error:  # Starlette has answered already and raises it again
            log.failure(f"request {asked.id}", error)
        self._service.metrics.request(_route(scope), status, time.monotonic() - asked.started)

    def _asked(self, headers: dict[bytes, bytes], path: str) -> Asked:
        given = headers.get(b"x-request-id", b"")
        now = time.monotonic()
        key = headers.get(b"x-sticky-key")
        return Asked(
            given.decode() if _ID.fullmatch(given) else self._service.new_id(),
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


@dataclass(frozen=True)
class Question:
    """A request for answers: who asks, which bundle answers, and the body that is still to come. `kind`: its content
    type, without parameters."""

    asked: Asked
    arm: Arm
    headers: dict[bytes, bytes]
    kind: str
    receive: Receive

    @classmethod
    def of(cls, service: Service, request: Request, arm: Arm | None = None) -> Question:
        """Raises `Refusal` for a compressed body."""
        asked, headers = request.scope["asked"], request.scope["found_headers"]
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refusal(415, "encoded", "compressed bodies are not read")
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        return cls(asked, arm or service.deployment.choose(asked.key or asked.id), headers, kind, request.receive)

    def admitted(self) -> AbstractContextManager[Place]:
        """A place for the bytes the body will need; as many as it may have where it does not tell, or tells more.

        Raises `Refusal` where there is none, or a client asks first whether it may send too much.
        """
        limit, told = byte_limit(self.kind), self.headers.get(b"content-length")
        size = int(told) if told is not None and told.isdigit() else limit
        if size > limit and b"expect" in self.headers:
            raise _too_large(limit)
        return self.arm.lane.admitted(min(size, limit))

    async def body(self) -> bytes:
        """The whole body, counted while it comes. Raises `Refusal` and `Gone`.

        Of a body that is too large the rest is thrown away as it comes, for a while: a connection that is closed while
        its client still sends is reset, and the client never sees why.
        """
        limit, found, thrown = byte_limit(self.kind), bytearray(), 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            found += message.get("body", b"")
            is_last = not message.get("more_body", False)
            if len(found) > limit or thrown:
                thrown += len(found)
                found.clear()
                if is_last or thrown > MOST_THROWN:
                    raise _too_large(limit)
            elif is_last:
                return bytes(found)

    async def awaited(self, answering: Awaitable[T]) -> T:
        """The answer; where it waits in a queue, it leaves the queue when the client goes."""
        if not self.arm.lane.is_queued:
            return await answering
        watching = asyncio.ensure_future(self._watch())
        try:
            return await answering
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.asked.is_gone = True


def build_app(service: Service) -> FastAPI:
    """All routes, for models of the kind that the service has."""
    kind = service.deployment.arms[0].bundle.kind
    app = FastAPI(title="danlu", version=__version__, description=documented.DESCRIPTION, docs_url=None, redoc_url=None)
    for kind_of_error in (Refusal, HTTPException, Exception):
        app.add_exception_handler(kind_of_error, _refused)
    page = files("danlu.serving") / "page"
    contents = {name: (page / name).read_bytes() for name in ("index.html", "docs.html", *PAGE)}

    @app.post(
        "/predict",
        response_model=documented.Answer,
        responses=documented.refused(400, 401, 413, 415, 422, 500, 503),
        openapi_extra={"requestBody": documented.predict_body(kind)},
        summary="The answer to one image or text",
    )
    async def predict(request: Request) -> Response:
        question = Question.of(service, request)
        with question.admitted():
            item = await _item(question)
            return _answered(await question.awaited(service.answer(question.arm, item, question.asked)))

    @app.post(
        "/predict/batch",
        response_model=documented.Answers,
        responses=documented.refused(400, 401, 413, 415, 422, 500, 503),
        openapi_extra={"requestBody": documented.batch_body(kind)},
        summary="Answers to several images or texts, each with its own error where it has one",
    )
    async def predict_batch(request: Request) -> Response:
        question = Question.of(service, request)
        with question.admitted() as place:
            items = await _items(question)
            place.grow(len(items) - 1)
            answers = await question.awaited(service.answers(question.arm, items, question.asked))
        return _answered({"answers": answers, "model": question.arm.model, "id": question.asked.id})

    @app.get("/model/info", response_model=documented.Info, responses=documented.refused(401))
    async def info() -> Response:
        return _answered(service.info())

    @app.get("/health", response_model=documented.Health, responses=documented.refused(401))
    async def health() -> Response:
        return _answered({"status": service.status, "model": service.deployment.arms[0].model})

    @app.get("/livez", response_model=documented.Status)
    async def live() -> Response:
        return _answered({"status": "live"})

    @app.get("/readyz", response_model=documented.Status, responses=documented.refused(503))
    async def ready() -> Response:
        return _answered(_if_ready(service, {"status": "ready"}))

    @app.get("/v2", tags=[OIP])
    async def server_metadata() -> Response:
        return _answered({"name": "danlu", "version": __version__, "extensions": []})

    @app.get("/v2/health/live", tags=[OIP])
    async def server_live() -> Response:
        return _answered({"live": True})

    @app.get("/v2/health/ready", tags=[OIP], responses=documented.refused(503))
    async def server_ready() -> Response:
        return _answered(_if_ready(service, {"ready": True}))

    @app.get("/v2/models/{name}", tags=[OIP], responses=documented.refused(404))
    async def model_metadata(name: str) -> Response:
        arm = _arm(service, name)
        return _answered(tensors.metadata(arm.name, arm.version, arm.predictor.recipe, arm.predictor.classes))

    @app.get("/v2/models/{name}/ready", tags=[OIP], responses=documented.refused(404, 503))
    async def model_ready(name: str) -> Response:
        return _answered(_if_ready(service, {"name": _arm(service, name).name, "ready": True}))

    @app.post("/v2/models/{name}/infer", tags=[OIP], responses=documented.refused(400, 404, 413, 422, 500, 503))
    async def infer(name: str, request: Request) -> Response:
        arm = _arm(service, name)
        question = Question.of(service, request, arm)
        with question.admitted() as place:
            id, items = tensors.items_of_request(await question.body(), arm.predictor.recipe)
            place.grow(len(items) - 1)
            answers = await question.awaited(service.answers(arm, items, question.asked))
        for answer in answers:
            if "error" in answer:
                raise Refusal(422, answer["error"]["code"], answer["error"]["message"])
        rows = [[answer["probabilities"][label] for label in arm.predictor.classes] for answer in answers]
        labels = [answer["class"] for answer in answers]
        return _answered(tensors.response(arm.name, arm.version, id or question.asked.id, rows, labels))

    @app.get("/metrics", response_class=Response, responses=documented.refused(401))
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(contents["index.html"], media_type="text/html; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(contents["docs.html"], media_type="text/html; charset=utf-8")

    @app.get("/page/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in PAGE:
            raise HTTPException(404)
        return Response(contents[name], media_type=PAGE[name])

    return app


def _if_ready(service: Service, content: dict[str, Any]) -> dict[str, Any]:
    if not service.is_ready:
        raise Refusal(503, service.status, f"the service is {service.status}", retry_after=1)
    return content


def _arm(service: Service, name: str) -> Arm:
    for arm in service.deployment.arms:
        if arm.name == name:
            return arm
    raise Refusal(404, "not_found", "no model of this name is served")


async def _item(question: Question) -> Any:
    """What a body holds, as the predictor reads it. Raises `Refusal`."""
    predictor, body = question.arm.predictor, await question.body()
    if question.kind == JSON:
        return item_of_json(body, predictor.recipe)
    if predictor.kind == "texts" and question.kind == "text/plain":
        return _text(body)
    if predictor.kind == "images":
        if question.kind == FORM:
            found = await _files(body, question.headers)
            if len(found) != 1:
                raise Refusal(422, "wrong_count", f"the form has {len(found)} files, one is expected")
            return found[0]
        if question.kind == "application/octet-stream" or question.kind.startswith("image/"):
            return body
    raise _not_read(predictor.kind)


async def _items(question: Question) -> list[Any]:
    predictor, body = question.arm.predictor, await question.body()
    if question.kind == JSON:
        return items_of_json(body, predictor.recipe)
    if predictor.kind == "images" and question.kind == FORM:
        found: list[Any] = await _files(body, question.headers)
        check_count(len(found))
        return found
    raise _not_read(predictor.kind)


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


async def _refused(request: Request, error: Exception) -> Response:
    """What is answered instead: to a refusal, a path or method that is none, and a mistake of ours."""
    if isinstance(error, HTTPException):
        status = error.status_code
        error = Refusal(status, CODES.get(status, "refused"), documented.WHY.get(status, "this is not allowed here"))
    elif not isinstance(error, Refusal):
        error = Refusal(500, "failed", "the service failed")
    body, headers = _told(error, request.scope["asked"])
    return Response(body, error.status, {name.decode(): value.decode() for name, value in headers})


def _answered(content: Any) -> Response:
    return Response(json.dumps(content, ensure_ascii=False).encode(), media_type=JSON)


def _more(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(refusal.retry_after))).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="danlu", charset="UTF-8"'))
    if refusal.status == 413:
        headers.append((b"connection", b"close"))
    return headers


def _told(refusal: Refusal, asked: Asked) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    problem: Any = {"code": refusal.code, "message": refusal.message, "id": asked.id}
    content = {"error": refusal.message if asked.is_tensor else problem}  # a string in the Open Inference Protocol
    body = json.dumps(content, ensure_ascii=False).encode()
    return body, [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode()), *_more(refusal)]


async def _refuse(send: Send, refusal: Refusal, asked: Asked) -> None:
    body, headers = _told(refusal, asked)
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _route(scope: Message) -> str:
    """The path of the route, which is one of a few; whatever is asked for otherwise counts together."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
