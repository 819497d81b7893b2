"""Whether the latest answers of a model look like those to examples of its own data.

Two windows are looked at, the last 500 answers and the last 5,000. In each, every number of an answer is compared with
its reference distribution, and every class with its reference share. The limits hold for any distribution and any size
of the reference, and are chosen so that one false alarm is expected in so many days: looks are at least 10 and 60
seconds apart, so how many there can be is known, and each has its part of the doubt. Nothing is assumed but that
answers do not depend on each other; repeated inputs or another mixture at night are, to these tests, drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from danlu.monitoring.rows import Row
from danlu.prediction.reference import CONFIDENCE, DISTANCE, ENTROPY, Reference
from danlu.scores.two_samples import gap_limit, gap_to_quantiles, shares_p_values

DAYS = 30.0
FEWEST = 100  # answers, before anything is said
CLASS_SHARES = "class shares"
BACK = 60.0  # seconds; answers of several workers come a little out of order
SIGNIFICANT = 3.0  # standard errors; a class whose share is nearer needs no exact test


@dataclass(frozen=True)
class Window:
    """`size`: of the latest answers; it is looked at after `answers` more and `seconds`, whichever is later."""

    size: int
    answers: int
    seconds: float


WINDOWS = (Window(500, 50, 10.0), Window(5000, 500, 60.0))


@dataclass(frozen=True)
class Signal:
    """One thing that is not as it was. `ratio`: to the limit; at 1 it is an alarm."""

    name: str
    ratio: float
    sentence: str


@dataclass(frozen=True)
class Look:
    """What one look at a window found. `answers`: how many there were before it; `ratios`: by what was looked at, the
    ratio to its limit; `signals`: those from 1 on, the highest first."""

    time: float
    answers: int
    window: int
    ratios: dict[str, float]
    signals: tuple[Signal, ...]

    @property
    def highest(self) -> float:
        return max(self.ratios.values())


class DriftWatch:
    """Watches one model. `days`: in which one false alarm is expected.

    >>> watch = DriftWatch(reference)                           # doctest: +SKIP
    >>> looks = [look for row in rows for look in watch.add(row)]     # doctest: +SKIP
    """

    def __init__(self, reference: Reference, days: float = DAYS) -> None:
        self.reference, self.days = reference, days
        self._names = list(reference.distributions)
        self._classes = {name: place for place, name in enumerate(reference.counts)}
        self._size = max(window.size for window in WINDOWS)
        self._seen = 0
        self.release()
        self._last = -math.inf
        self._looked_at = [(0, -math.inf)] * len(WINDOWS)
        self._noticed: list[tuple[int, float]] = []

    def forget(self) -> None:
        """Let no window reach back beyond this moment."""
        self._filled = 0

    def release(self) -> None:
        """Give the memory of the windows back: no more is expected. What comes all the same begins new ones."""
        self._numbers = np.empty((0, len(self._names)))
        self._labels = np.empty(0, dtype=np.int64)
        self._filled = 0

    def add(self, row: Row) -> list[Look]:
        """Take an answer; what was found where it was time to look at a window."""
        if not len(self._labels):
            self._numbers = np.empty((2 * self._size, len(self._names)))
            self._labels = np.empty(2 * self._size, dtype=np.int64)
        if self._filled == len(self._labels):
            self._numbers[: self._size] = self._numbers[-self._size :]
            self._labels[: self._size] = self._labels[-self._size :]
            self._filled = self._size
        numbers = row.numbers[: len(self._names)]
        self._numbers[self._filled, : len(numbers)] = numbers
        self._numbers[self._filled, len(numbers) :] = math.nan
        self._labels[self._filled] = self._classes.get(row.label, len(self._classes))
        self._filled += 1
        self._seen += 1
        self._last = row.time
        return self._due(row.time, [window.answers for window in WINDOWS])

    def catch_up(self, time: float | None = None) -> list[Look]:
        """Look at what came since the last look, however few answers that is: no more may come for long. `time`: now;
        None where this is the end of what there is, which is looked at however short ago the last look was."""
        if time is None:
            return self._due(math.inf, [1] * len(WINDOWS))
        self._notice(time if self._noticed else -math.inf)
        return self._due(time, [1 if self._is_rested(place, time) else math.inf for place in range(len(WINDOWS))])

    def _notice(self, time: float) -> None:
        """Keep when the last looks were, by the clock of who catches up: that of the answers may be another machine's,
        and a look at answers that seem to be old would be due each time."""
        before = self._noticed or [(-1, 0.0)] * len(WINDOWS)
        now = [answers for answers, _ in self._looked_at]
        self._noticed = [one if one[0] == new else (new, time) for one, new in zip(before, now, strict=True)]

    def _is_rested(self, place: int, time: float) -> bool:
        """Whether the last look at a window is long enough ago by either clock, or lies in the future of this one."""
        seconds, (_, looked_at), (_, noticed) = WINDOWS[place].seconds, self._looked_at[place], self._noticed[place]
        return self._last - looked_at >= seconds or not 0 <= time - noticed < seconds

    def _due(self, time: float, fewest: Sequence[float]) -> list[Look]:
        found: list[Look] = []
        if self._filled < FEWEST:
            return found
        for place, window in enumerate(WINDOWS):
            answers, looked_at = self._looked_at[place]
            if self._last < looked_at - BACK:  # the clock was set back: what was looked at lies in its future
                looked_at = self._last
                self._looked_at[place] = (answers, looked_at)
            if self._seen - answers >= fewest[place] and time - looked_at >= window.seconds:
                self._looked_at[place] = (self._seen, max(looked_at, min(time, self._last)))
                found.append(self._look(window, self._last))
        return found

    @cached_property
    def doubts(self) -> dict[int, float]:
        """For each window, how likely one of its comparisons may be to give an alarm for nothing."""
        comparisons = len(self._names) + 1
        return {window.size: window.seconds / (self.days * 86_400) / comparisons / len(WINDOWS) for window in WINDOWS}

    def _look(self, window: Window, time: float) -> Look:
        count = min(window.size, self._filled)
        numbers = self._numbers[self._filled - count : self._filled]
        labels = self._labels[self._filled - count : self._filled]
        doubt, reference = self.doubts[window.size], self.reference
        ratios: dict[str, float] = {}
        signals: list[Signal] = []
        for place, name in enumerate(self._names):
            column = numbers[:, place]
            column = column[~np.isnan(column)]
            if len(column) < FEWEST:
                continue
            gap = gap_to_quantiles(column, reference.distributions[name])
            ratios[name] = gap.size / gap_limit(len(column), reference.examples, doubt)
            if ratios[name] >= 1:
                signals.append(Signal(name, ratios[name], self._sentence(name, column, gap.is_higher)))
        ratios[CLASS_SHARES], told = self._class_shares(labels, doubt)
        ordered = sorted(signals + told, key=lambda one: -one.ratio)
        return Look(time, self._seen, window.size, ratios, tuple(ordered))

    def _class_shares(self, labels: np.ndarray, doubt: float) -> tuple[float, list[Signal]]:
        """The highest ratio of a class, of logarithms of likelihood and limit, and the signals of those from 1 on."""
        names = [*self._classes, "another class"]
        now = np.bincount(labels, minlength=len(names))
        before = np.array([*self.reference.counts.values(), 0])
        both = (now + before) / (now.sum() + before.sum())
        error = np.sqrt(np.maximum(both * (1 - both), 1e-12) * (1 / now.sum() + 1 / before.sum()))
        shift = np.abs(now / now.sum() - before / before.sum()) / error
        places = np.flatnonzero(shift > SIGNIFICANT)
        if not len(places):
            return 0.0, []
        p_values = shares_p_values(now, before, places)
        ratios = np.log(np.maximum(p_values, 1e-300)) / math.log(doubt / len(names))
        signals = [
            Signal(
                f"share of {names[place]}",
                float(ratio),
                f"`{names[place]}` is {now[place] / now.sum():.0%} of the last {now.sum():,} answers, and was"
                f" {before[place] / before.sum():.0%}",
            )
            for place, ratio in zip(places, ratios, strict=True)
            if ratio >= 1
        ]
        return float(max(0.0, ratios.max())), signals

    def _sentence(self, name: str, column: np.ndarray, is_higher: bool) -> str:
        now, before = float(np.median(column)), float(np.median(self.reference.distributions[name]))
        medians = f"median {now:.3g} of the last {len(column):,}, and was {before:.3g}"
        if name == CONFIDENCE:
            return f"the model is {'more' if is_higher else 'less'} sure of its answers: {medians}"
        if name == ENTROPY:
            return f"probabilities are {'more spread' if is_higher else 'nearer to one class'}: entropy, {medians}"
        if name == DISTANCE:
            how = "differ more from the training data" if is_higher else "vary less than the training data"
            return f"inputs {how}, as the model sees them: {medians}"
        return f"what the model sees in the inputs has shifted ({name}): {medians}"
