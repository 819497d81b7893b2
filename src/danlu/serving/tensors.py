"""Requests and answers of the Open Inference Protocol v2 in JSON.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from danlu.base.errors import UnreadableItem
from danlu.inputs.images import ImageRecipe, whole_numbers
from danlu.inputs.texts import TextRecipe
from danlu.serving.bodies import MOST_ITEMS, read_json
from danlu.serving.refusal import Refusal

PIXELS, TEXTS = "inputs", "text"
PROBABILITIES, CLASS = "probabilities", "class"


def metadata(name: str, version: str, recipe: ImageRecipe | TextRecipe, classes: Sequence[str]) -> dict[str, Any]:
    """What a model reads and gives. Images are pixels 0 to 255, channels first."""
    if isinstance(recipe, ImageRecipe):
        read = {"name": PIXELS, "datatype": "UINT8", "shape": [-1, *recipe.shape]}
    else:
        read = {"name": TEXTS, "datatype": "BYTES", "shape": [-1]}
    given = [
        {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(classes)]},
        {"name": CLASS, "datatype": "BYTES", "shape": [-1]},
    ]
    return {"name": name, "versions": [version], "platform": "onnx_onnxv1", "inputs": [read], "outputs": given}


def items_of_request(data: bytes, recipe: ImageRecipe | TextRecipe) -> tuple[str | None, list[Any]]:
    """The request's own id, and its items as a predictor reads them. Raises `Refusal`."""
    body = read_json(data)
    tensors = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise Refusal(400, "wrong_inputs", "one input tensor is expected")
    id, tensor = body.get("id"), tensors[0]
    if id is not None and not isinstance(id, str):
        raise Refusal(400, "wrong_id", "`id` is not a string")
    name, kind = (PIXELS, "UINT8") if isinstance(recipe, ImageRecipe) else (TEXTS, "BYTES")
    if (tensor.get("name"), tensor.get("datatype")) != (name, kind):
        raise Refusal(400, "wrong_inputs", f"the tensor `{name}` of the datatype {kind} is expected")
    shape, values = tensor.get("shape"), tensor.get("data")
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise Refusal(400, "wrong_shape", "`shape` is not a list of whole numbers")
    if not isinstance(values, list):
        raise Refusal(400, "wrong_data", "`data` is not a list; binary tensors are not read")
    if not shape or not 1 <= shape[0] <= MOST_ITEMS:
        raise Refusal(400, "wrong_shape", f"a request has 1 to {MOST_ITEMS} inputs")
    return id, _pixels(values, shape, recipe) if isinstance(recipe, ImageRecipe) else _texts(values, shape)


def response(
    name: str, version: str, id: str, rows: Sequence[Sequence[float]], labels: Sequence[str]
) -> dict[str, Any]:
    """`rows`: probabilities in the order of the classes; `labels`: the answers."""
    given = [
        {
            "name": PROBABILITIES,
            "datatype": "FP32",
            "shape": [len(rows), len(rows[0])],
            "data": [share for row in rows for share in row],
        },
        {"name": CLASS, "datatype": "BYTES", "shape": [len(labels)], "data": list(labels)},
    ]
    return {"model_name": name, "model_version": version, "id": id, "outputs": given}


def _pixels(values: list[Any], shape: list[int], recipe: ImageRecipe) -> list[Any]:
    """The data may be flat or nested, as the protocol allows."""
    if tuple(shape[1:]) != recipe.shape:
        raise Refusal(400, "wrong_shape", f"the shape [n, {', '.join(map(str, recipe.shape))}] is expected")
    try:
        found = whole_numbers(values)
    except UnreadableItem as error:
        raise Refusal(400, "wrong_data", f"the data {error.message}") from None
    if found.size != math.prod(shape):
        raise Refusal(400, "wrong_data", "the data is not as many whole numbers as the shape says")
    if found.min() < 0 or found.max() > 255:
        raise Refusal(400, "wrong_data", "a pixel is not from 0 to 255")
    pixels = found.astype(np.uint8).reshape(shape)
    return [image.transpose(1, 2, 0) for image in pixels]


def _texts(values: list[Any], shape: list[int]) -> list[Any]:
    if shape != [len(values)]:
        raise Refusal(400, "wrong_shape", "the shape is not the number of texts")
    return [value if isinstance(value, str) else UnreadableItem("is not a string") for value in values]
