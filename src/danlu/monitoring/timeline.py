"""What a model answered over time, in a few hundred pieces however many answers there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from danlu.monitoring.rows import Row

MOST_PIECES = 240
NARROWEST = 10.0
LOW_CONFIDENCE = 0.7
SHORTEST_MS, STEP = 0.001, 1.02  # of the steps in which latency is counted: percentiles are right to 1 %


@dataclass
class Piece:
    """The answers of some seconds. `ratios`: of drift, the highest to its limit, by what was looked at."""

    start: float
    answers: int = 0
    confidence: float = 0.0
    low: int = 0
    unknown: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    steps: Counter[int] = field(default_factory=Counter)
    ratios: dict[str, float] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        self.answers += 1
        self.confidence += row.confidence
        self.low += row.confidence < LOW_CONFIDENCE
        self.unknown += row.is_unknown
        self.classes[row.label] += 1
        self.steps[_step(row.ms)] += 1

    def take(self, other: Piece) -> None:
        """Everything of another piece."""
        self.answers += other.answers
        self.confidence += other.confidence
        self.low += other.low
        self.unknown += other.unknown
        self.classes.update(other.classes)
        self.steps.update(other.steps)
        for name, ratio in other.ratios.items():
            self.ratios[name] = max(ratio, self.ratios.get(name, 0.0))

    @property
    def mean_confidence(self) -> float:
        return self.confidence / self.answers

    def latency(self, share: float) -> float:
        """Milliseconds within which this share of the answers came."""
        wanted, seen = share * self.answers, 0
        for step in sorted(self.steps):
            seen += self.steps[step]
            if seen >= wanted:
                return SHORTEST_MS * STEP ** (step + 0.5) if step else SHORTEST_MS
        return 0.0


class Timeline:
    """Pieces of equal length, which doubles where there would be more than 240."""

    def __init__(self) -> None:
        self.seconds = NARROWEST
        self.first, self.last = math.inf, -math.inf
        self._pieces: dict[int, Piece] = {}

    def add(self, row: Row) -> None:
        self._at(row.time).add(row)
        self.first, self.last = min(self.first, row.time), max(self.last, row.time)

    def mark(self, time: float, ratios: Mapping[str, float]) -> None:
        """Keep what a look found, at the time of an answer that was added."""
        kept = self._at(time).ratios
        for name, ratio in ratios.items():
            kept[name] = max(ratio, kept.get(name, 0.0))

    @property
    def pieces(self) -> list[Piece]:
        """In the order of time; times without an answer have none."""
        return [self._pieces[place] for place in sorted(self._pieces)]

    def whole(self) -> Piece:
        """All answers together."""
        total = Piece(self.first)
        for piece in self._pieces.values():
            total.take(piece)
        return total

    def _at(self, time: float) -> Piece:
        place = int(time // self.seconds)
        if place not in self._pieces:
            self._pieces[place] = Piece(place * self.seconds)
            while len(self._pieces) > MOST_PIECES:
                self._halve()
            place = int(time // self.seconds)
        return self._pieces[place]

    def _halve(self) -> None:
        self.seconds *= 2
        before, self._pieces = self._pieces, {}
        for piece in before.values():
            place = int(piece.start // self.seconds)
            self._pieces.setdefault(place, Piece(place * self.seconds)).take(piece)


def _step(ms: float) -> int:
    return 0 if ms <= SHORTEST_MS else int(math.log(ms / SHORTEST_MS) / math.log(STEP))
