"""What the service keeps of its answers. A service writes thousands a second, so the lines of the journal are made many
at a time, in its own thread."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson

from danlu.prediction.reference import numbers_of

if TYPE_CHECKING:
    from danlu.serving.deployment import Arm

KEY_DIGITS = 16


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


def lines_of(told: Sequence[Told]) -> Iterator[bytes]:
    """A line of JSON for each answer. Of a sticky key, which may be a person's, only a hash is kept."""
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
                row["key"] = hashlib.sha256(one.key.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_DIGITS]
            if one.is_shadow:
                row["shadow"] = True
            yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
