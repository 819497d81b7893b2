"""When drift becomes an alarm, when the alarm is over, and when it is time to retrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from danlu.monitoring.drift import Look, Signal

CLEAN_ANSWERS = 500  # without a signal, after which an alarm is over
LASTING_ANSWERS = 5000
LASTING_SECONDS = 86_400.0
STEADY, DRIFT, RETRAIN, FEW, UNKNOWN = "steady", "drift", "retrain", "too few answers", "no reference"


@dataclass
class Alarm:
    """`start`, `last`, `end`: seconds since 1970, of the first and last look with a signal, and of the look that found
    it over. `signals`: by name, each at its highest ratio."""

    start: float
    start_answers: int
    last: float
    last_answers: int
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
        self.last, self.last_answers = look.time, look.answers
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
    """The alarms of one model."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.alarms: list[Alarm] = []
        self.state = FEW
        self._was_lasting = False

    @property
    def now(self) -> Alarm | None:
        return self.alarms[-1] if self.alarms and self.alarms[-1].end is None else None

    def take(self, look: Look) -> list[Event]:
        """What is new after a look."""
        alarm, events = self.now, []
        if look.signals:
            if alarm is None:
                alarm = Alarm(look.time, look.answers, look.time, look.answers)
                self.alarms.append(alarm)
                self._was_lasting = False
                text = f"drift: {look.signals[0].sentence}"
                events.append(Event(DRIFT, self.model, look.time, text, look.signals))
            alarm.take(look)
            if alarm.is_lasting and not self._was_lasting:
                self._was_lasting = True
                text = f"time to retrain: drift since {local(alarm.start)}, over {alarm.answers:,} answers"
                events.append(Event(RETRAIN, self.model, look.time, text, tuple(alarm.worst)))
        elif alarm is not None and look.answers - alarm.last_answers >= CLEAN_ANSWERS:
            alarm.end = look.time
            events.append(Event("over", self.model, look.time, f"the drift since {local(alarm.start)} is over"))
            alarm = None
        self.state = STEADY if alarm is None else RETRAIN if alarm.is_lasting else DRIFT
        return events


def iso(time: float) -> str:
    """Local time with its zone."""
    return datetime.fromtimestamp(time).astimezone().isoformat(timespec="seconds")


def local(time: float) -> str:
    return f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M}"


def advice(states: Mapping[str, str]) -> str:
    """What to do, from the state of each model."""
    if RETRAIN in states.values():
        return "label some of the new inputs, add them to the data, and train again"
    if DRIFT in states.values():
        return "look at what is sent now: a broken camera or client is no reason to train again"
    return ""
