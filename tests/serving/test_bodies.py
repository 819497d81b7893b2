"""How many inputs a body may have, and how large it may be."""

from __future__ import annotations

import json

import pytest

from danlu.base.errors import UnreadableItem
from danlu.inputs.images import ImageRecipe
from danlu.serving.bodies import byte_limit, item_of_json, items_of_json
from danlu.serving.refusal import Refusal
from danlu.serving.tensors import items_of_request

MIB = 2**20
RECIPE = ImageRecipe(height=1, width=2, channels=1)


def batch(count: int) -> bytes:
    return json.dumps({"pixels": [[[1, 2]]] * count}).encode()


def tensor(count: int, data: list[int] | None = None) -> bytes:
    data = [1, 2] * count if data is None else data
    return json.dumps(
        {"inputs": [{"name": "inputs", "datatype": "UINT8", "shape": [count, *RECIPE.shape], "data": data}]}
    ).encode()


@pytest.mark.parametrize("count", [1, 256])
def test_request_may_have_256_inputs(count: int) -> None:
    assert len(items_of_json(batch(count), RECIPE)) == count
    assert len(items_of_request(tensor(count), RECIPE)[1]) == count


@pytest.mark.parametrize("count", [0, 257])
def test_request_of_no_inputs_or_of_more_is_refused(count: int) -> None:
    with pytest.raises(Refusal, match="a request has 1 to 256 inputs") as refused:
        items_of_json(batch(count), RECIPE)
    assert refused.value.status == 422
    with pytest.raises(Refusal, match="a request has 1 to 256 inputs"):
        items_of_request(tensor(count), RECIPE)


def test_bodies_are_as_large_as_is_promised() -> None:
    kinds = ("image/png", "multipart/form-data", "application/json", "text/plain")
    assert [byte_limit(kind) for kind in kinds] == [10 * MIB, 10 * MIB, MIB, MIB]


@pytest.mark.parametrize("value", [[[1, 256]], [[1, -1]], [[1.5, 2]], [[1]], [[1, 2], [3, 4]], "1 2", None], ids=str)
def test_pixels_that_are_none_are_no_input_and_harm_no_other(value: object) -> None:
    with pytest.raises(Refusal) as refused:
        item_of_json(json.dumps({"pixels": value}).encode(), RECIPE)
    assert (refused.value.status, refused.value.code) == (422, "unreadable")
    found = items_of_json(json.dumps({"pixels": [value, [[1, 2]]]}).encode(), RECIPE)
    assert isinstance(found[0], UnreadableItem) and found[1].ravel().tolist() == [1, 2]


@pytest.mark.parametrize("data", [[0, 256], [-1, 0], [0], [0, 0, 0]], ids=str)
def test_tensor_of_other_numbers_than_pixels_is_refused(data: list[int]) -> None:
    """256 would be 0."""
    assert [one.ravel().tolist() for one in items_of_request(tensor(1, [0, 255]), RECIPE)[1]] == [[0, 255]]
    with pytest.raises(Refusal) as refused:
        items_of_request(tensor(1, data), RECIPE)
    assert (refused.value.status, refused.value.code) == (400, "wrong_data")
