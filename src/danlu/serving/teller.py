"""An answer as JSON, and as a row of the journal. A service writes thousands a second, so what is the same in all
answers of a model is written once, and the journal's rows are made many at a time, in its own thread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from danlu.prediction.answers import UNKNOWN
from danlu.prediction.predictor import Prediction, Predictor
from danlu.prediction.reference import numbers_of

if TYPE_CHECKING:
    from danlu.serving.deployment import Arm

DIGITS = 7


class Teller:
    """Writes answers of one model."""

    def __init__(self, predictor: Predictor, model: str) -> None:
        self._names = {name: json.dumps(name, ensure_ascii=False) for name in (*predictor.classes, UNKNOWN)}
        self._model = json.dumps(model, ensure_ascii=False)

    def text(self, answer: Prediction, id: str) -> str:
        """The body of an answer. `id`: of the request, of signs that JSON leaves as they are."""
        names = self._names
        shares = ",".join([f"{names[name]}:{round(share, DIGITS)!r}" for name, share in answer.probabilities.items()])
        return (
            f'{{"class":{names[str(answer.label)]},"unknown":{"true" if answer.is_unknown else "false"},'
            f'"confidence":{round(answer.confidence or 0.0, DIGITS)!r},"probabilities":{{{shares}}},'
            f'"model":{self._model},"id":"{id}"}}'
        )


class Told(NamedTuple):
    """What the journal will know of an answer. `row`: (classes,) probabilities; `features`: what the last layer read;
    `ms`: from the header of the request to the answer."""

    arm: Arm
    id: str
    row: np.ndarray
    features: np.ndarray
    time: float
    ms: float
    key: str | None
    is_shadow: bool


def journal_rows(told: Sequence[Told]) -> Iterator[dict[str, Any]]:
    """A row for each answer."""
    for arm, group in groupby(told, key=lambda one: one.arm):
        own = list(group)
        probabilities = np.stack([one.row for one in own])
        numbers = numbers_of(probabilities, np.stack([one.features for one in own]), arm.reference.summary)
        known = arm.predictor.calibration.accepts(probabilities.max(1))
        best = probabilities.argmax(1)
        for one, place, values, is_known in zip(own, best.tolist(), numbers.tolist(), known.tolist(), strict=True):
            confidence, entropy, *features = values
            row = {
                "time": round(one.time, 3),
                "id": one.id,
                "model": arm.model,
                "class": arm.predictor.classes[place],
                "unknown": not is_known,
                "confidence": confidence,
                "entropy": entropy,
                "ms": round(one.ms, 3),
                "features": features,
            }
            if one.key is not None:
                row["key"] = one.key
            if one.is_shadow:
                row["shadow"] = True
            yield row
