"""The Open Inference Protocol v2: what it tells, reads and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server import Server

import danlu

PIXELS = np.random.default_rng(0).integers(0, 255, (2, 3, 16, 16), dtype=np.uint8)


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "inputs", "datatype": "UINT8", "shape": [2, 3, 16, 16], "data": PIXELS.ravel().tolist()}
    return {**whole, **changes}


def infer(server: Server, *tensors: Any, **more: Any) -> tuple[int, Any]:
    name = server.ask("GET", "/model/info")[1]["models"][0]["name"]
    body = json.dumps({"inputs": list(tensors), **more}).encode()
    return server.ask("POST", f"/v2/models/{name}/infer", body, "application/json")[:2]


@pytest.mark.parametrize("data", [PIXELS.ravel().tolist(), PIXELS.tolist()], ids=["flat", "nested"])
def test_tensor_of_pixels_is_answered_as_offline(server: Server, images: Path, data: list[Any]) -> None:
    status, found = infer(server, tensor(data=data), id="order-1")
    assert (status, found["id"]) == (200, "order-1")
    predictor = danlu.load(images)
    rows = {output["name"]: output for output in found["outputs"]}
    assert rows["probabilities"]["shape"] == [2, 3]
    expected = predictor.predict(PIXELS.transpose(0, 2, 3, 1))
    assert np.reshape(rows["probabilities"]["data"], (2, 3)) == pytest.approx(predictor.probabilities(PIXELS), abs=1e-5)
    assert rows["class"]["data"] == [answer.label for answer in expected]


def test_texts_are_answered(text_server: Server, texts: Path) -> None:
    read = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["很好吃，满意", "太慢"]}
    status, found = infer(text_server, read)
    assert status == 200
    assert found["outputs"][1]["data"] == [answer.label for answer in danlu.load(texts).predict(read["data"])]
    assert infer(text_server, {**read, "data": ["a", " "]})[0] == 422
    assert infer(text_server, {**read, "data": ["a", 3]})[0] == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "other"},
        {"datatype": "FP32"},
        {"shape": [2, 16, 16, 3]},
        {"shape": [-1, 3, 16, 16]},
        {"shape": [3, 3, 16, 16]},
        {"shape": "2"},
        {"data": "AAAA"},
        {"data": [[1], [2, 3]]},
        {"data": [300] * 1536},
        {"data": [0.5] * 1536},
        {"shape": [10**9, 3, 16, 16]},
    ],
    ids=lambda wrong: f"{next(iter(wrong))}={str(next(iter(wrong.values())))[:14]}",
)
def test_wrong_tensor_is_refused_with_a_sentence(server: Server, wrong: dict[str, Any]) -> None:
    status, found = infer(server, tensor(**wrong))
    assert status in (400, 422)
    assert isinstance(found["error"], str)


def test_metadata_and_health(server: Server) -> None:
    name = server.ask("GET", "/model/info")[1]["models"][0]["name"]
    assert server.ask("GET", "/v2")[1]["name"] == "danlu"
    assert server.ask("GET", "/v2/health/live")[1] == {"live": True}
    assert server.ask("GET", "/v2/health/ready")[1] == {"ready": True}
    told = server.ask("GET", f"/v2/models/{name}")[1]
    assert told["inputs"] == [{"name": "inputs", "datatype": "UINT8", "shape": [-1, 3, 16, 16]}]
    assert server.ask("GET", f"/v2/models/{name}/ready")[0] == 200
    assert server.ask("GET", "/v2/models/none")[0] == 404
