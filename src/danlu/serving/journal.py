"""What the service keeps of its answers. It writes thousands a second, so the lines of the journal are made many at a
time: 64 cost four times as much as one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson

from danlu.base import log
from danlu.base.journal import JournalWriter
from danlu.prediction.reference import numbers_of

if TYPE_CHECKING:
    from danlu.serving.deployment import Arm

KEY_DIGITS = 16
AT_ONCE = 64  # lines: 0.3 ms, for which every request waits
SECONDS = 0.05


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


class AnswerJournal:
    """Gathers answers in the event loop until there are 64, or for 0.05 s, and hands their lines to a writer.

    A thread that made the lines would hold Python's lock for as long, and at moments that nobody chose.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = JournalWriter(folder)
        self._told: list[Told] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None

    @property
    def lost(self) -> int:
        """How many answers could not be kept."""
        return self._writer.lost

    def add(self, told: Told) -> None:
        self._told.append(told)
        if self._timer is None:
            self._timer = self._loop.call_later(SECONDS, self._flush)
        elif len(self._told) == AT_ONCE:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Write what was gathered, and end."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        told, self._told, self._timer = self._told, [], None
        try:
            lines = list(lines_of(told))
        except Exception as error:  # a mistake of ours must not end the service
            log.failure("journal", error)
            self._writer.lose(len(told), str(error))
        else:
            self._writer.add(lines)


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
