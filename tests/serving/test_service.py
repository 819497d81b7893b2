"""A mistake of ours with one of several inputs is one error, said in the log and not to the client."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from danlu.serving.asked import Asked
from danlu.serving.deployment import Deployment, load_arm
from danlu.serving.lane import Limits
from danlu.serving.metrics import Metrics
from danlu.serving.refusal import Refusal
from danlu.serving.service import Answered, Service


def test_mistake_with_one_input_harms_no_other(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answers() -> list[Any]:
        limits = Limits()
        service = Service(Deployment([await load_arm(images, 1.0, limits)], limits), Metrics(), None)
        (arm,) = service.deployment.arms
        numbers, real = itertools.count(), arm.predictor.prediction

        def prediction(row: np.ndarray, name: str = "") -> Any:
            if next(numbers) == 1:
                raise KeyError("/secret/place")
            return real(row, name)

        monkeypatch.setattr(arm.predictor, "prediction", prediction)
        picture = np.zeros((16, 16, 3), np.uint8)
        try:
            return await service.answers(arm, [picture] * 3, Asked("a", 1e12))
        finally:
            service.close()

    found = asyncio.run(answers())
    assert [type(one) for one in found] == [Answered, Refusal, Answered]
    assert found[1].status == 500 and "secret" not in found[1].message
    assert "/secret/place" in capsys.readouterr().err
