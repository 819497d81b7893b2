"""A row of the journal as a monitor reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LATEST = 4e9  # seconds since 1970, in 2096
SLOWEST_MS = 1e9
LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One answer. `time`: seconds since 1970; `label`: the most probable class; `numbers`: confidence, entropy and, of
    bundles that have one, the summary of the features."""

    time: float
    id: str
    model: str
    label: str
    is_unknown: bool
    ms: float
    numbers: tuple[float, ...]
    is_shadow: bool

    @property
    def confidence(self) -> float:
        return self.numbers[0]


def row_of(content: Mapping[str, Any]) -> Row | None:
    """None where it is no answer."""
    try:
        numbers = (content["confidence"], content["entropy"], *content.get("features", ()))
        found = Row(
            float(content["time"]),
            str(content["id"]),
            str(content["model"]),
            str(content["class"]),
            bool(content["unknown"]),
            float(content["ms"]),
            tuple(map(float, numbers)),
            bool(content.get("shadow", False)),
        )
        f"{found.id}{found.model}{found.label}".encode()  # no half of a sign, which no page can hold
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    is_good = (
        0 < found.time < LATEST
        and 0 <= found.ms < SLOWEST_MS
        and 0 <= found.confidence <= 1
        and all(abs(number) <= LARGEST for number in found.numbers)  # NaN is not
    )
    return found if is_good else None
