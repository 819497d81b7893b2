"""From what was asked to what is answered: admission, reading, computing, the journal and the counters."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from danlu import __version__
from danlu.base.errors import UnreadableItem
from danlu.base.journal import JournalWriter
from danlu.inputs.images import ImageRecipe
from danlu.prediction.predictor import Prediction
from danlu.serving.asked import Asked
from danlu.serving.deployment import Arm, Deployment
from danlu.serving.metrics import Metrics
from danlu.serving.refusal import Refusal

MOST_SHADOWED = 64  # inputs that wait for the shadow; it passes over others
WORTH_A_THREAD = 16 * 2**10  # bytes of an image file, from which decoding does not hold up other requests


class Service:
    """What one worker answers with."""

    def __init__(self, deployment: Deployment, metrics: Metrics, journal: JournalWriter | None) -> None:
        self.deployment, self.metrics, self.journal = deployment, metrics, journal
        self.is_draining = False
        self._readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="danlu-reader")
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count()
        self._loop = asyncio.get_running_loop()
        self._shadowed: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        return self.status == "ready"

    @property
    def status(self) -> str:
        if self.is_draining:
            return "draining"
        return "stuck" if any(arm.lane.is_stuck() for arm in self.deployment.arms) else "ready"

    async def reload(self) -> bool:
        """Take bundles that were replaced on disk; whether all could be taken."""
        went_well = await self.deployment.reload()
        self.metrics.reloads.labels("done" if went_well else "refused").inc()
        return went_well

    def close(self) -> None:
        """Write the rest of the journal."""
        self._readers.shutdown(wait=False)
        if self.journal is not None:
            self.journal.close()

    def info(self) -> dict[str, Any]:
        """What answers here."""
        shadow = self.deployment.shadow
        return {
            "models": [_model_info(arm) for arm in self.deployment.arms],
            "shadow": _model_info(shadow) if shadow else None,
            "danlu": __version__,
        }

    def new_id(self) -> str:
        return f"{self._prefix}-{next(self._numbers):x}"

    async def answer(self, arm: Arm, item: Any, asked: Asked) -> dict[str, Any]:
        """The answer to one input. Raises `Refusal`."""
        try:
            prepared = await self._read(arm, item)
        except UnreadableItem as error:
            raise Refusal(422, "unreadable", f"the input {error.message}") from None
        row = await arm.lane.answer(prepared, asked)
        if self.deployment.shadow is not None:
            self._ask_shadow(self.deployment.shadow, item, asked)
        return self._told(arm, row, asked)

    async def answers(self, arm: Arm, items: Sequence[Any], asked: Asked) -> list[dict[str, Any]]:
        """An answer or an error for each of several inputs, in their order."""
        found = await asyncio.gather(*(self.answer(arm, item, asked) for item in items), return_exceptions=True)
        return [_outcome(one) for one in found]

    def _ask_shadow(self, shadow: Arm, item: Any, asked: Asked) -> None:
        """Ask the bundle that answers nobody, after the answer is there; it is left out while it is behind."""
        if len(self._shadowed) >= MOST_SHADOWED:
            self.metrics.shadow.labels("left out").inc()
            return
        task = self._loop.create_task(self._shadow(shadow, item, replace(asked, started=time.monotonic())))
        self._shadowed.add(task)
        task.add_done_callback(self._shadowed.discard)

    async def _shadow(self, shadow: Arm, item: Any, asked: Asked) -> None:
        try:
            row = await shadow.lane.answer(await self._read(shadow, item), asked)
        except (Refusal, UnreadableItem):
            self.metrics.shadow.labels("failed").inc()
            return
        self.metrics.shadow.labels("asked").inc()
        if self.journal is not None:
            self.journal.add({**_journal_row(shadow, shadow.predictor.prediction(row), asked), "shadow": True})

    async def _read(self, arm: Arm, item: Any) -> Any:
        if isinstance(item, UnreadableItem):
            raise item
        if isinstance(item, bytes) and len(item) >= WORTH_A_THREAD:
            return await self._loop.run_in_executor(self._readers, arm.predictor.read, item)
        return arm.predictor.read(item)

    def _told(self, arm: Arm, row: np.ndarray, asked: Asked) -> dict[str, Any]:
        answer = arm.predictor.prediction(row)
        label, confidence = str(answer.label), float(answer.confidence or 0.0)
        self.metrics.answered(arm.model, label, confidence)
        if self.journal is not None:
            self.journal.add(_journal_row(arm, answer, asked))
        return {
            "class": label,
            "unknown": answer.is_unknown,
            "confidence": round(confidence, 7),
            "probabilities": {name: round(share, 7) for name, share in answer.probabilities.items()},
            "model": arm.model,
            "id": asked.id,
        }


def _model_info(arm: Arm) -> dict[str, Any]:
    recipe = arm.predictor.recipe
    return {
        "name": arm.name,
        "version": arm.version,
        "share": arm.share,
        "kind": arm.predictor.kind,
        "classes": list(arm.predictor.classes),
        "input_shape": list(recipe.shape) if isinstance(recipe, ImageRecipe) else None,
        "threshold": arm.predictor.calibration.threshold,
        "made": arm.bundle.content.get("made"),
    }


def _journal_row(arm: Arm, answer: Prediction, asked: Asked) -> dict[str, Any]:
    shares = answer.probabilities.values()
    return {
        "time": round(time.time(), 3),
        "id": asked.id,
        "model": arm.model,
        "class": next(iter(answer.probabilities)),
        "unknown": answer.is_unknown,
        "confidence": round(float(answer.confidence or 0.0), 6),
        "entropy": round(-sum(share * math.log(share) for share in shares if share > 0), 6),
        "ms": round(1000 * (time.monotonic() - asked.started), 3),
        **({"key": asked.key} if asked.key is not None else {}),
    }


def _outcome(found: dict[str, Any] | BaseException) -> dict[str, Any]:
    if isinstance(found, Refusal):
        return {"error": {"code": found.code, "message": found.message}}
    if isinstance(found, BaseException):
        raise found
    return found
