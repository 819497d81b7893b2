"""The routes. The only file that imports FastAPI."""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from danlu import __version__
from danlu.serving import documented, tensors
from danlu.serving.deployment import Arm
from danlu.serving.front import JSON, OPEN, Direct, Front, Message, Receive, to_json, told
from danlu.serving.question import Question
from danlu.serving.refusal import Refusal
from danlu.serving.service import Answered, Service

SCRIPT = "text/javascript; charset=utf-8"
HTML = "text/html; charset=utf-8"
PAGE = {"page.css": "text/css; charset=utf-8", "page.js": SCRIPT, "docs.js": SCRIPT}
OIP = "Open Inference Protocol v2"
CODES = {404: "not_found", 405: "wrong_method"}
ASKED = (400, 401, 413, 415, 422, 500, 503)


def build(service: Service, key: str | None, deadline: float) -> Front:
    """All routes, for models of the kind that the service has."""
    app = FastAPI(
        title="danlu",
        version=__version__,
        description=documented.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect repeats the host and the path that the client sent
    )
    for kind_of_error in (Refusal, HTTPException, Exception):
        app.add_exception_handler(kind_of_error, _refused)
    routes = Routes(app)
    _add_questions(routes, service)
    _add_health(routes, service)
    _add_open_inference(app, service)
    _add_pages(app, service)
    if key is not None:
        plain = app.openapi
        app.openapi = cache(lambda: documented.with_key(plain(), OPEN))  # type: ignore[method-assign]
    return Front(app, routes.direct, service, key, deadline)


class Routes:
    """Routes whose answer is JSON, and which `Front` asks before FastAPI: here FastAPI has them for its document alone,
    and for a request that comes to them all the same, with a method or a path written otherwise."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.direct: dict[tuple[str, str], Direct] = {}

    def add(self, method: str, path: str, answer: Direct, **documentation: Any) -> None:
        async def route(request: Request) -> Response:
            return Response(await answer(request.scope, request.receive), media_type=JSON)

        self._app.add_api_route(path, route, methods=[method], name=path, **documentation)
        self.direct[method, path] = answer


def _add_questions(routes: Routes, service: Service) -> None:
    kind = service.deployment.arms[0].bundle.kind

    async def predict(scope: Message, receive: Receive) -> bytes:
        question = Question.of(service, scope, receive)
        with question.admitted():
            item = await question.item()
            return to_json((await question.awaited(service.answer(question.arm, item, question.asked))).to_json())

    async def predict_batch(scope: Message, receive: Receive) -> bytes:
        question = Question.of(service, scope, receive)
        with question.admitted() as place:
            items = await question.items()
            place.grow(len(items) - 1)
            found = await question.awaited(service.answers(question.arm, items, question.asked))
        answers = [one.to_json() for one in found]
        return to_json({"answers": answers, "model": question.arm.model, "id": question.asked.id})

    routes.add(
        "POST",
        "/predict",
        predict,
        response_model=documented.Answer,
        responses=documented.refused(*ASKED),
        openapi_extra={"requestBody": documented.predict_body(kind)},
        summary="The answer to one image or text",
    )
    routes.add(
        "POST",
        "/predict/batch",
        predict_batch,
        response_model=documented.Answers,
        responses=documented.refused(*ASKED),
        openapi_extra={"requestBody": documented.batch_body(kind)},
        summary="Answers to several images or texts, each with its own error where it has one",
    )


def _add_health(routes: Routes, service: Service) -> None:
    async def live(scope: Message, receive: Receive) -> bytes:
        return to_json({"status": "live"})

    async def ready(scope: Message, receive: Receive) -> bytes:
        return to_json(_if_ready(service, {"status": "ready"}))

    async def health(scope: Message, receive: Receive) -> bytes:
        return to_json({"status": service.status, "model": service.deployment.arms[0].model})

    async def info(scope: Message, receive: Receive) -> bytes:
        return to_json(service.info())

    routes.add("GET", "/livez", live, response_model=documented.Status, summary="Whether the process answers")
    routes.add(
        "GET",
        "/readyz",
        ready,
        response_model=documented.Status,
        responses=documented.refused(503),
        summary="Whether requests should come here",
    )
    routes.add(
        "GET",
        "/health",
        health,
        response_model=documented.Health,
        responses=documented.refused(401),
        summary="ready, draining or stuck, and the model",
    )
    routes.add(
        "GET",
        "/model/info",
        info,
        response_model=documented.Info,
        responses=documented.refused(401),
        summary="What is served: classes, size of images, threshold",
    )


def _add_open_inference(app: FastAPI, service: Service) -> None:
    kind, refused = service.deployment.arms[0].bundle.kind, partial(documented.refused, is_tensor=True)

    @app.get("/v2", tags=[OIP], responses=refused(401), summary="The server's metadata")
    async def server_metadata() -> Response:
        return _answered({"name": "danlu", "version": __version__, "extensions": []})

    @app.get("/v2/health/live", tags=[OIP], responses=refused(401), summary="Whether the server answers")
    async def server_live() -> Response:
        return _answered({"live": True})

    @app.get("/v2/health/ready", tags=[OIP], responses=refused(401, 503), summary="Whether requests should come here")
    async def server_ready() -> Response:
        return _answered(_if_ready(service, {"ready": True}))

    @app.get("/v2/models/{name}", tags=[OIP], responses=refused(401, 404), summary="The model's metadata")
    async def model_metadata(name: str) -> Response:
        arm = _arm(service, name)
        return _answered(tensors.metadata(arm.name, arm.version, arm.predictor.recipe, arm.predictor.classes))

    @app.get(
        "/v2/models/{name}/ready",
        tags=[OIP],
        responses=refused(401, 404, 503),
        summary="Whether the model can be asked",
    )
    async def model_ready(name: str) -> Response:
        return _answered(_if_ready(service, {"name": _arm(service, name).name, "ready": True}))

    @app.post(
        "/v2/models/{name}/infer",
        tags=[OIP],
        responses=refused(404, *ASKED),
        openapi_extra={"requestBody": documented.tensor_body(kind)},
        summary="Probabilities and classes of a tensor of inputs",
    )
    async def infer(name: str, request: Request) -> Response:
        arm = _arm(service, name)
        question = Question.of(service, request.scope, request.receive, arm)
        with question.admitted() as place:
            id, items = tensors.items_of_request(await question.body(), arm.predictor.recipe)
            place.grow(len(items) - 1)
            found = await question.awaited(service.answers(arm, items, question.asked))
        answers = [_or_raise(one) for one in found]
        rows = [one.row.tolist() for one in answers]
        labels = [str(one.prediction.label) for one in answers]
        return _answered(tensors.response(arm.name, arm.version, id or question.asked.id, rows, labels))


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/metrics", response_class=Response, responses=documented.refused(401), summary="Counters for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    folder = files("danlu.serving") / "page"
    contents = {name: (folder / name).read_bytes() for name in ("index.html", "docs.html", *PAGE)}

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(contents["index.html"], media_type=HTML)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(contents["docs.html"], media_type=HTML)

    @app.get("/page/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in PAGE:
            raise HTTPException(404)
        return Response(contents[name], media_type=PAGE[name])


def _if_ready(service: Service, content: dict[str, Any]) -> dict[str, Any]:
    if not service.is_ready:
        raise Refusal(503, service.status, f"the service is {service.status}", retry_after=1)
    return content


def _arm(service: Service, name: str) -> Arm:
    for arm in service.deployment.arms:
        if arm.name == name:
            return arm
    raise Refusal(404, "not_found", "no model of this name is served")


async def _refused(request: Request, error: Exception) -> Response:
    """What is answered instead: to a refusal, a path or method that is none, and a mistake of ours."""
    more: dict[str, str] = {}
    if isinstance(error, HTTPException):
        status, more = error.status_code, dict(error.headers or {})
        error = Refusal(status, CODES.get(status, "refused"), documented.WHY.get(status, "this is not allowed here"))
    elif not isinstance(error, Refusal):
        error = Refusal(500, "failed", "the service failed")
    body, headers = told(error, request.scope["asked"])
    more |= {name.decode(): value.decode() for name, value in headers}
    return Response(body, error.status, more, media_type=JSON)


def _or_raise(found: Answered | Refusal) -> Answered:
    if isinstance(found, Refusal):
        raise Refusal(
            found.status if found.status >= 500 else 422, found.code, found.message, retry_after=found.retry_after
        )
    return found


def _answered(content: Any) -> Response:
    return Response(to_json(content), media_type=JSON)
