"""What a batch takes of the lane: as many places as it has inputs, whichever way it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from danlu.inputs.images import ImageRecipe
from danlu.serving.app import build
from danlu.serving.asked import Asked
from danlu.serving.front import Message
from danlu.serving.refusal import Refusal

RECIPE = ImageRecipe(height=1, width=1, channels=1)


class Place:
    def __init__(self) -> None:
        self.grown: list[int] = []

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def grow(self, items: int) -> None:
        self.grown.append(items)
        raise Refusal(503, "busy", "too many requests wait for an answer", retry_after=2)


def posted(path: str, content: Any) -> tuple[int, list[int]]:
    """The status, and by how much the place of the request was to grow before anything was computed."""
    place = Place()
    lane = SimpleNamespace(admitted=lambda size_bytes: place, is_queued=False)
    predictor = SimpleNamespace(recipe=RECIPE, kind="images")
    bundle = SimpleNamespace(kind="images")
    arm: Any = SimpleNamespace(name="pets", version="1", bundle=bundle, predictor=predictor, lane=lane)

    async def answers(arm: Any, items: Sequence[Any], asked: Asked) -> list[Any]:
        raise AssertionError("nothing is computed")

    service: Any = SimpleNamespace(
        deployment=SimpleNamespace(arms=[arm], choose=lambda key: arm),
        metrics=SimpleNamespace(request=lambda *_: None),
        new_id=lambda: "new",
        answers=answers,
    )
    body, sent = json.dumps(content).encode(), list[Message]()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope: Message = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    asyncio.run(build(service, None, 5.0)(scope, receive, send))
    return sent[0]["status"], place.grown


def test_batch_takes_a_place_for_each_of_its_inputs() -> None:
    assert posted("/predict/batch", {"pixels": [[[1]]] * 7}) == (503, [6])


def test_tensor_takes_a_place_for_each_of_its_inputs() -> None:
    tensor = {"name": "inputs", "datatype": "UINT8", "shape": [7, 1, 1, 1], "data": [1] * 7}
    assert posted("/v2/models/pets/infer", {"inputs": [tensor]}) == (503, [6])
