"""Which rows of a journal are answers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from streams import Stream, content_of

from danlu.monitoring.rows import row_of


@pytest.mark.parametrize(
    "change",
    [{"features": [math.nan]}, {"features": [math.inf]}, {"entropy": math.nan}, {"ms": -1.0}, {"confidence": 1.01}],
    ids=str,
)
def test_numbers_that_none_can_be_are_no_answer(change: dict[str, Any]) -> None:
    content = content_of(next(iter(Stream(0).rows(1))))
    assert row_of(content) is not None and row_of(content | change) is None
