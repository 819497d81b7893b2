"""From a question to an answer: mistakes of ours, shadows, counters."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from danlu.base.errors import UnreadableItem
from danlu.base.journal import Journal
from danlu.prediction.predictor import Prediction
from danlu.serving.app import _or_raise
from danlu.serving.asked import Asked
from danlu.serving.deployment import Deployment, load_arm
from danlu.serving.journal import AnswerJournal, Told
from danlu.serving.lane import Limits
from danlu.serving.metrics import Metrics
from danlu.serving.refusal import Refusal
from danlu.serving.service import MOST_SHADOWED, Answered, Service


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


# With invented models


class Model:
    """What a service needs of an arm: it answers the first class with 0.9, after `may_answer`, or raises `error`."""

    model = "pets@1"

    def __init__(self, error: Exception | None = None, *, is_unknown: bool = False, is_stuck: bool = False) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.lane = SimpleNamespace(answer=self._answer, is_stuck=lambda: is_stuck)
        said = Prediction("", "cat", 0.9, {"cat": 0.9, "dog": 0.1}, is_unknown=is_unknown)
        self.predictor = SimpleNamespace(read=lambda item: item, prediction=lambda row: said)
        self._error = error

    async def _answer(self, prepared: Any, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        await self.may_answer.wait()
        if self._error is not None:
            raise self._error
        return np.array([0.9, 0.1]), np.zeros(2)


def service_of(*models: Model, shadow: Model | None = None) -> Service:
    deployment: Any = SimpleNamespace(arms=list(models), shadow=shadow, limits=Limits(), before_swap=None)
    return Service(deployment, Metrics(), None)


def asked() -> Asked:
    return Asked("a", time.monotonic() + 5)


async def answered(service: Service, count: int) -> list[Answered]:
    return [await service.answer(service.deployment.arms[0], "input", asked()) for _ in range(count)]


def test_shadow_that_is_behind_is_left_out() -> None:
    async def told() -> str:
        shadow = Model()
        service = service_of(Model(), shadow=shadow)
        shadow.may_answer.clear()
        assert len(await answered(service, MOST_SHADOWED + 6)) == MOST_SHADOWED + 6
        shadow.may_answer.set()
        await asyncio.sleep(0.05)
        await answered(service, 1)
        await asyncio.sleep(0.05)
        service.close()
        return service.metrics.page().decode()

    page = asyncio.run(told())
    assert 'danlu_shadow_total{outcome="left out"} 6.0' in page
    assert f'danlu_shadow_total{{outcome="asked"}} {MOST_SHADOWED + 1}.0' in page


@pytest.mark.parametrize("error", [Refusal(503, "late", "late"), UnreadableItem("is no image")], ids=repr)
def test_shadow_that_fails_is_counted_and_fails_no_request(error: Exception) -> None:
    async def told() -> str:
        service = service_of(Model(), shadow=Model(error))
        await answered(service, 2)
        await asyncio.sleep(0.01)
        service.close()
        return service.metrics.page().decode()

    assert 'danlu_shadow_total{outcome="failed"} 2.0' in asyncio.run(told())


def test_one_model_that_hangs_is_enough_not_to_be_ready() -> None:
    async def told() -> list[str]:
        return [service_of(Model(), Model(is_stuck=is_stuck)).status for is_stuck in (False, True)]

    assert asyncio.run(told()) == ["ready", "stuck"]


def test_answers_below_the_threshold_are_counted() -> None:
    async def told() -> str:
        service = service_of(Model(is_unknown=True))
        await answered(service, 3)
        return service.metrics.page().decode()

    page = asyncio.run(told())
    assert 'danlu_unknown_total{model="pets@1"} 3.0' in page
    assert 'danlu_answers_total{label="cat",model="pets@1"} 3.0' in page, "the most probable class"


def test_answers_that_the_journal_lost_are_counted_once() -> None:
    async def told() -> str:
        service = service_of(Model())
        service.journal = cast(AnswerJournal, SimpleNamespace(lost=3))
        service.tell_counters()
        service.tell_counters()
        return service.metrics.page().decode()

    assert "danlu_journal_lost_total 3.0" in asyncio.run(told())


def test_journal_has_the_milliseconds_since_the_header_of_the_request() -> None:
    async def told() -> list[Told]:
        service, found = service_of(Model()), list[Told]()
        service.journal = cast(AnswerJournal, SimpleNamespace(add=found.append))
        await service.answer(service.deployment.arms[0], "input", Asked("a", 1e12, started=time.monotonic() - 0.2))
        return found

    (one,) = asyncio.run(told())
    assert 200 <= one.ms < 1000


def test_refusal_of_one_tensor_says_whose_fault_it_is() -> None:
    for status, expected in ((503, 503), (500, 500), (413, 422), (422, 422)):
        with pytest.raises(Refusal) as refused:
            _or_raise(Refusal(status, "code", "message", retry_after=3))
        assert (refused.value.status, refused.value.retry_after) == (expected, 3)


def test_refusal_of_a_file_repeats_nothing_that_its_decoder_said() -> None:
    def read(item: bytes, at_most: int) -> None:
        try:
            raise ValueError("secret bytes of the file")
        except ValueError as cause:
            raise UnreadableItem(f"is broken: {cause}") from cause

    async def refused() -> str:
        service = service_of(Model())
        service.deployment.arms[0].predictor.read = read  # type: ignore[assignment, method-assign]
        with pytest.raises(Refusal) as found:
            await service.answer(service.deployment.arms[0], b"file", asked())
        return found.value.message

    assert asyncio.run(refused()) == "the input is broken"


@pytest.mark.parametrize(("went_well", "outcome"), [(True, "done"), (False, "refused")])
def test_reload_is_counted_by_its_outcome(went_well: bool, outcome: str) -> None:
    async def told() -> str:
        async def reload() -> bool:
            return went_well

        service = service_of(Model())
        service.deployment.reload = reload  # type: ignore[method-assign]
        assert await service.reload() == went_well
        return service.metrics.page().decode()

    assert re.findall(r"danlu_reloads_total{.*", asyncio.run(told())) == [
        f'danlu_reloads_total{{outcome="{outcome}"}} 1.0'
    ]


def test_statistics_of_the_shadow_lie_beside_the_journal_too(tmp_path: Path) -> None:
    def model(name: str) -> Any:
        found: Any = Model()
        found.model, found.version = f"{name}@12", name
        found.reference = SimpleNamespace(to_json=lambda: {})
        return found

    async def started() -> None:
        deployment: Any = SimpleNamespace(arms=[model("a")], shadow=model("b"), limits=Limits(), before_swap=None)
        Service(deployment, Metrics(), tmp_path).close()

    asyncio.run(started())
    assert set(Journal(tmp_path).references()) == {"a@12", "b@12"}
