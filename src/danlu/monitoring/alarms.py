"""When drift becomes an alarm, when the alarm is over, and when it is time to retrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from danlu.monitoring.drift import WINDOWS, DriftWatch, Look, Signal
from danlu.monitoring.rows import Row

CALM = 0.7  # of a limit; an alarm near it would end and begin again all the time
CLEAN_ANSWERS = 500  # all calm, after which an alarm is over
LASTING_ANSWERS = 5000
LASTING_SECONDS = 86_400.0
STEADY, DRIFT, RETRAIN, FEW, UNKNOWN = "steady", "drift", "retrain", "too few answers", "no reference"


@dataclass
class Alarm:
    """`start`, `last`, `end`: seconds since 1970, of the first and last look with a signal, and of the look that found
    it over. `uneasy_answers`: how many answers there were at the last look that was not calm. `is_short`: whether the
    short window gave signals; then it alone says when they are over, as the long one has them in it for long.
    `signals`: by name, each at its highest ratio."""

    start: float
    start_answers: int
    last: float
    last_answers: int
    uneasy_answers: int
    is_short: bool
    signals: dict[str, Signal] = field(default_factory=dict)
    end: float | None = None

    @property
    def answers(self) -> int:
        """From the first look with a signal to the last."""
        return self.last_answers - self.start_answers

    @property
    def is_lasting(self) -> bool:
        """A day, or 5,000 answers: what the model was trained on is not what it is asked."""
        return self.answers >= LASTING_ANSWERS or self.last - self.start >= LASTING_SECONDS

    @property
    def worst(self) -> list[Signal]:
        return sorted(self.signals.values(), key=lambda one: -one.ratio)

    def take(self, look: Look) -> None:
        self.last, self.last_answers, self.uneasy_answers = look.time, look.answers, look.answers
        for signal in look.signals:
            if signal.name not in self.signals or self.signals[signal.name].ratio <= signal.ratio:
                self.signals[signal.name] = signal

    def to_json(self) -> dict[str, Any]:
        return {
            "start": iso(self.start),
            "end": iso(self.end) if self.end is not None else None,
            "answers": self.answers,
            "signals": [asdict(one) for one in self.worst],
        }


@dataclass(frozen=True)
class Event:
    """What is told when it happens. `kind`: `drift`, `retrain` or `over`."""

    kind: str
    model: str
    time: float
    text: str
    signals: tuple[Signal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "source": "danlu",
            "event": self.kind,
            "model": self.model,
            "time": iso(self.time),
            "text": f"{self.model}: {self.text}",
            "signals": [asdict(one) for one in self.signals],
        }


class AlarmBook:
    """Watches one model, and keeps its alarms."""

    def __init__(self, model: str, watch: DriftWatch) -> None:
        self.model, self.watch = model, watch
        self.alarms: list[Alarm] = []
        self.look: Look | None = None
        self._was_lasting = False

    @property
    def now(self) -> Alarm | None:
        return self.alarms[-1] if self.alarms and self.alarms[-1].end is None else None

    @property
    def state(self) -> str:
        if self.look is None:
            return FEW
        alarm = self.now
        return STEADY if alarm is None else RETRAIN if alarm.is_lasting else DRIFT

    def add(self, row: Row) -> tuple[list[Look], list[Event]]:
        """Take an answer; what was found where it was time to look, and what is new."""
        looks = self.watch.add(row)
        return looks, [event for look in looks for event in self._take(look)]

    def catch_up(self, time: float | None = None) -> tuple[list[Look], list[Event]]:
        """As `add`, without an answer: see `DriftWatch.catch_up`."""
        looks = self.watch.catch_up(time)
        return looks, [event for look in looks for event in self._take(look)]

    def _take(self, look: Look) -> list[Event]:
        self.look, alarm = look, self.now
        is_short = look.window == WINDOWS[0].size
        if alarm is None:
            return self._begin(look, is_short) if look.signals else []
        if alarm.is_short and not is_short:
            return []
        if look.signals:
            alarm.is_short |= is_short
            alarm.take(look)
            return self._lasting(alarm, look)
        if alarm.is_short == is_short:
            if look.highest >= CALM:
                alarm.uneasy_answers = look.answers
            elif look.answers - alarm.uneasy_answers >= CLEAN_ANSWERS:
                alarm.end = look.time
                self.watch.forget()
                return [Event("over", self.model, look.time, f"the drift since {local(alarm.start)} is over")]
        return []

    def _begin(self, look: Look, is_short: bool) -> list[Event]:
        alarm = Alarm(look.time, look.answers, look.time, look.answers, look.answers, is_short)
        alarm.take(look)
        self.alarms.append(alarm)
        self._was_lasting = False
        return [Event(DRIFT, self.model, look.time, f"drift: {look.signals[0].sentence}", look.signals)]

    def _lasting(self, alarm: Alarm, look: Look) -> list[Event]:
        """The news, once, that an alarm lasts."""
        if self._was_lasting or not alarm.is_lasting:
            return []
        self._was_lasting = True
        text = f"time to retrain: drift since {local(alarm.start)}, over {alarm.answers:,} answers"
        return [Event(RETRAIN, self.model, look.time, text, tuple(alarm.worst))]


def iso(time: float) -> str:
    """Local time with its zone."""
    return datetime.fromtimestamp(time).astimezone().isoformat(timespec="seconds")


def local(time: float) -> str:
    return f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M}"


def advice(states: Mapping[str, str]) -> str:
    """What to do, from the state of each model."""
    if RETRAIN in states.values():
        return "Label some of the new inputs, add them to the data, and train again"
    if DRIFT in states.values():
        return "Look at what is sent now: a broken camera or client is no reason to train again"
    return ""
