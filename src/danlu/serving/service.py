"""From what was asked to what is answered: admission, reading, computing, the journal and the counters."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from danlu import __version__
from danlu.base import log
from danlu.base.errors import MachineError, UnreadableItem
from danlu.base.journal import keep_reference
from danlu.inputs.images import ImageRecipe, ManyPixels
from danlu.prediction.predictor import Prediction
from danlu.serving.asked import Asked
from danlu.serving.deployment import Arm, Deployment
from danlu.serving.journal import AnswerJournal, Told
from danlu.serving.metrics import Metrics
from danlu.serving.readers import Readers
from danlu.serving.refusal import Refusal

MOST_SHADOWED = 64  # inputs that wait for the shadow; it passes over others
DIGITS = 7
WORTH_A_THREAD = 16 * 2**10  # bytes of an image file, from which decoding holds up other requests
PIXELS_AT_ONCE = 100_000  # of which a file of a few bytes can have 50 million


class Answered(NamedTuple):
    """`row`: (classes,) calibrated probabilities."""

    prediction: Prediction
    row: np.ndarray
    model: str
    id: str

    def to_json(self) -> dict[str, Any]:
        answer = self.prediction
        return {
            "class": answer.label,
            "unknown": answer.is_unknown,
            "confidence": round(answer.confidence or 0.0, DIGITS),
            "probabilities": {name: round(share, DIGITS) for name, share in answer.probabilities.items()},
            "model": self.model,
            "id": self.id,
        }


class Service:
    """What one worker answers with."""

    def __init__(self, deployment: Deployment, metrics: Metrics, journal: Path | None) -> None:
        self.deployment, self.metrics = deployment, metrics
        self.journal = AnswerJournal(journal) if journal is not None else None
        self._lost = 0
        deployment.before_swap = self._keep_reference
        for arm in (*deployment.arms, *filter(None, [deployment.shadow])):
            self._keep_reference(arm)
        self.is_draining = False
        self._readers = Readers(deployment.limits.most_decoded_bytes)
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

    def _keep_reference(self, arm: Arm) -> None:
        """Before its first answer is in the journal."""
        if self.journal is not None:
            try:
                keep_reference(self.journal.folder, arm.model, arm.version, arm.reference.to_json())
            except MachineError as error:
                log.warn(f"a monitor of this journal will need the bundle: {error.message}")

    def tell_counters(self) -> None:
        """Bring the counters that others read up to now, and how many answers the journal could not keep."""
        if self.journal is not None:
            lost = self.journal.lost
            self.metrics.lost.inc(lost - self._lost)
            self._lost = lost
        self.metrics.flush()

    def close(self) -> None:
        """Write the rest of the journal."""
        self._readers.close()
        if self.journal is not None:
            self.journal.close()
        self.tell_counters()

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

    async def answer(self, arm: Arm, item: Any, asked: Asked, id: str | None = None) -> Answered:
        """The answer to one input. `id`: of this answer, where it is one of several. Raises `Refusal`."""
        try:
            prepared = await self._read(arm, item, asked)
        except UnreadableItem as error:
            raise Refusal(422, "unreadable", f"the input {_reason(error)}") from None
        row, features = await arm.lane.answer(prepared, asked)
        prediction = arm.predictor.prediction(row)
        answered = Answered(prediction, row, arm.model, id or asked.id)
        best, confidence = next(iter(prediction.probabilities.items()))
        self.metrics.answered(arm.model, best, confidence, is_unknown=prediction.is_unknown)
        self._write(arm, answered.id, row, features, asked)
        if self.deployment.shadow is not None:
            self._ask_shadow(self.deployment.shadow, item, asked, answered.id)
        return answered

    async def answers(self, arm: Arm, items: Sequence[Any], asked: Asked) -> list[Answered | Refusal]:
        """An answer or a refusal for each of several inputs, in their order."""
        answering = [self.answer(arm, item, asked, f"{asked.id}.{number}") for number, item in enumerate(items)]
        return [_outcome(one, asked) for one in await asyncio.gather(*answering, return_exceptions=True)]

    def _ask_shadow(self, shadow: Arm, item: Any, asked: Asked, id: str) -> None:
        """Ask the bundle that answers nobody, after the answer is there; it is left out while it is behind."""
        if len(self._shadowed) >= MOST_SHADOWED:
            self.metrics.shadow.labels("left out").inc()
            return
        task = self._loop.create_task(self._shadow(shadow, item, asked, id))
        self._shadowed.add(task)
        task.add_done_callback(self._shadowed.discard)

    async def _shadow(self, shadow: Arm, item: Any, asked: Asked, id: str) -> None:
        later = Asked(asked.id, asked.ends, asked.key)
        try:
            row, features = await shadow.lane.answer(await self._read(shadow, item, later), later)
        except (Refusal, UnreadableItem):
            self.metrics.shadow.labels("failed").inc()
            return
        self.metrics.shadow.labels("asked").inc()
        self._write(shadow, id, row, features, later, is_shadow=True)

    def _write(
        self, arm: Arm, id: str, row: np.ndarray, features: np.ndarray, asked: Asked, *, is_shadow: bool = False
    ) -> None:
        if self.journal is not None:
            ms = 1000 * (time.monotonic() - asked.started)
            self.journal.add(Told(arm, id, row, features, time.time(), ms, asked.key, is_shadow))

    async def _read(self, arm: Arm, item: Any, asked: Asked) -> Any:
        if isinstance(item, UnreadableItem):
            raise item
        if isinstance(item, bytes):
            try:
                return arm.predictor.read(item, at_most=PIXELS_AT_ONCE if len(item) < WORTH_A_THREAD else 0)
            except ManyPixels as image:
                return await self._readers.read(arm.predictor, item, image, asked)
        return arm.predictor.read(item)


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


def _reason(error: UnreadableItem) -> str:
    """Without what a decoder said of the file, which can repeat bytes of it."""
    return error.message.replace(f": {error.__cause__}", "") if error.__cause__ is not None else error.message


def _outcome(found: Answered | BaseException, asked: Asked) -> Answered | Refusal:
    """A mistake of ours with one item harms no other."""
    if isinstance(found, (Answered, Refusal)):
        return found
    if not isinstance(found, Exception):
        raise found
    log.failure(f"request {asked.id}", found)
    return Refusal(500, "failed", "the service failed")
