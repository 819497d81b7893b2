"""What the OpenAPI document says of requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

DESCRIPTION = "Answers of a classifier, with calibrated probabilities. Made by danlu."
_TEXT = "很快，好吃"
# One white pixel
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
_ITEM: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "description": "An image file in base64", "example": _PNG},
    "pixels": {
        "type": "array",
        "description": "Rows of whole numbers 0 to 255, or of [red, green, blue], in the size /model/info tells",
        "items": {"type": "array", "items": {}},
    },
    "text": {"type": "string", "description": "A text", "example": _TEXT},
}
_PLURAL = {"image": "images", "pixels": "pixels", "text": "texts"}
_BYTES = {"schema": {"type": "string", "format": "binary"}}


class Answer(BaseModel):
    """`class` is `unknown` and `unknown` true where the model is less confident than its threshold."""

    model_config = ConfigDict(populate_by_name=True)

    label: str = Field(alias="class")
    unknown: bool
    confidence: float = Field(ge=0, le=1)
    probabilities: dict[str, float]
    model: str
    id: str


class Problem(BaseModel):
    code: str
    message: str
    id: str | None = None


class Refused(BaseModel):
    error: Problem


class TensorRefused(BaseModel):
    """As the Open Inference Protocol wants it."""

    error: str


class Answers(BaseModel):
    """An answer for each input in its order, or an error."""

    answers: list[Answer | Refused]
    model: str
    id: str


class Model(BaseModel):
    name: str
    version: str
    share: float
    kind: str
    classes: list[str]
    input_shape: list[int] | None
    threshold: float | None
    made: str | None


class Info(BaseModel):
    models: list[Model]
    shadow: Model | None
    danlu: str


class Status(BaseModel):
    status: str


class Health(BaseModel):
    status: str
    model: str


def predict_body(kind: str) -> dict[str, Any]:
    """The request bodies of `POST /predict` for models of images or of texts."""
    fields = _fields(kind)
    choices = [_only(name, _ITEM[name]) for name in fields]
    return _bodies(kind, {"oneOf": choices} if len(choices) > 1 else choices[0], {"file": _BYTES["schema"]})


def batch_body(kind: str) -> dict[str, Any]:
    """The request bodies of `POST /predict/batch`."""
    lists = [_only(_PLURAL[name], {"type": "array", "minItems": 1, "items": _ITEM[name]}) for name in _fields(kind)]
    files = {"files": {"type": "array", "minItems": 1, "items": _BYTES["schema"]}}
    return _bodies(kind, {"oneOf": lists} if len(lists) > 1 else lists[0], files, is_batch=True)


def tensor_body(kind: str) -> dict[str, Any]:
    """The request body of the Open Inference Protocol's `infer`."""
    name, datatype = ("text", "BYTES") if kind == "texts" else ("inputs", "UINT8")
    example = {"example": {"inputs": [{"name": name, "datatype": datatype, "shape": [1], "data": [_TEXT]}]}}
    shape = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": shape | {"description": "As the model's metadata tells; -1 stands for 1 to 256"},
            "data": {"type": "array", "minItems": 1, "items": {}, "description": "Flat or nested"},
        },
        "required": ["name", "datatype", "shape", "data"],
    }
    inputs = {"type": "array", "minItems": 1, "maxItems": 1, "items": tensor}
    whole = {"type": "object", "properties": {"id": {"type": "string"}, "inputs": inputs}, "required": ["inputs"]}
    whole |= example if kind == "texts" else {}
    return {"required": True, "content": {"application/json": {"schema": whole}}}


def refused(*statuses: int, is_tensor: bool = False) -> dict[int | str, dict[str, Any]]:
    """The answers that are none, for the OpenAPI document."""
    model = TensorRefused if is_tensor else Refused
    return {status: {"model": model, "description": WHY[status]} for status in statuses}


def with_key(schema: dict[str, Any], open_paths: Sequence[str]) -> dict[str, Any]:
    """An OpenAPI document of a service that asks for a key everywhere but at `open_paths`."""
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
        "basic": {"type": "http", "scheme": "basic", "description": "Any name, and the key as password"},
    }
    schema.setdefault("components", {})["securitySchemes"] = schemes
    schema["security"] = [{name: []} for name in schemes]
    for path in open_paths:
        for operation in schema["paths"][path].values():
            operation["security"] = []
    return schema


WHY = {
    400: "the body cannot be read",
    401: "the API key is missing or wrong",
    404: "there is nothing at this path",
    408: "the body came too slowly",
    411: "the length of the body is not told",
    413: "the body is too large, or has more inputs than can be answered in time",
    415: "the content type is not read",
    422: "the input is not one the model reads",
    500: "the service failed",
    503: "too many requests wait, or the service is stopping",
}


def _fields(kind: str) -> tuple[str, ...]:
    return ("text",) if kind == "texts" else ("image", "pixels")


def _only(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


def _bodies(kind: str, json: dict[str, Any], form: dict[str, Any], *, is_batch: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": json}}
    if kind == "images":
        content["multipart/form-data"] = {
            "schema": {"type": "object", "properties": form, "required": list(form)}  # other fields are passed over
        }
        if not is_batch:
            content |= {"application/octet-stream": _BYTES, "image/jpeg": _BYTES, "image/png": _BYTES}
    elif not is_batch:
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"required": True, "content": content}
