"""What a disease says of a training: a sentence, numbers, a chart, how sure it is, and what cures it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SURE, LIKELY = 0.8, 0.5
WORDS = ("high", "medium", "low")


@dataclass(frozen=True)
class Cure:
    """`advice`: one sentence. `settings`: dotted key → value, where another training with these is the cure.

    `command`: the verb that helps where training alone does not, its words after `danlu`, with `DATA` for the data and
    `RUN` for the run.
    """

    advice: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None


@dataclass(frozen=True)
class Chart:
    """Lines by name: points (x, y). `levels`: horizontal lines by name. `log`: the y axis is logarithmic."""

    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    levels: Mapping[str, float] = field(default_factory=dict)
    log: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """`disease`: its name in `DISEASES`. `evidence`: what was seen, each as (what, how much). `confidence`: 0 to 1."""

    disease: str
    sentence: str
    evidence: tuple[tuple[str, str], ...]
    confidence: float
    cure: Cure
    chart: Chart | None = None

    @property
    def level(self) -> str:
        """high, medium or low.

        >>> Diagnosis("plateau", "", (), 0.8, Cure("")).level
        'high'
        """
        return WORDS[0] if self.confidence >= SURE else WORDS[1] if self.confidence >= LIKELY else WORDS[2]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "level": self.level}


def surest_first(found: Iterable[Diagnosis]) -> tuple[Diagnosis, ...]:
    """By level, and within one in the order they were looked for: causes before what they cause."""
    return tuple(sorted(found, key=lambda diagnosis: WORDS.index(diagnosis.level)))
