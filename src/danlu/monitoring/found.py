"""What a monitor found, as JSON, as sentences and as what its page draws."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from danlu.monitoring.alarms import Alarm, iso, local
from danlu.monitoring.drift import Look
from danlu.monitoring.timeline import Timeline
from danlu.prediction.reference import Reference

PERCENTILES = (0.5, 0.95, 0.99)
TOLD_REPLACED = 3  # in full: what one compares with is the version before


@dataclass(frozen=True)
class Watched:
    """What is known of one model. `state`: `steady`, `drift`, `retrain`, `too few answers` or `no reference`.
    `is_replaced`: a later one answers in its place now."""

    model: str
    state: str
    timeline: Timeline
    alarms: tuple[Alarm, ...]
    look: Look | None
    reference: Reference | None
    is_shadow: bool = False
    is_replaced: bool = False

    @property
    def alarm(self) -> Alarm | None:
        """The one that is not over."""
        return self.alarms[-1] if self.alarms and self.alarms[-1].end is None else None

    def to_json(self) -> dict[str, Any]:
        whole = self.timeline.whole()
        return {
            "model": self.model,
            "shadow": self.is_shadow,
            "replaced": self.is_replaced,
            "state": self.state,
            "answers": whole.answers,
            "first": iso(self.timeline.first),
            "last": iso(self.timeline.last),
            "mean_confidence": whole.mean_confidence,
            "low_confidence": whole.low / whole.answers,
            "unknown": whole.unknown / whole.answers,
            "latency_ms": {f"p{100 * share:g}": whole.latency(share) for share in PERCENTILES},
            "class_shares": {name: count / whole.answers for name, count in whole.classes.most_common()},
            "ratios": dict(self.look.ratios) if self.look else None,
            "alarms": [alarm.to_json() for alarm in self.alarms],
        }


@dataclass(frozen=True)
class Older:
    """What is kept of versions that were replaced long ago, all together."""

    versions: int = 0
    answers: int = 0
    alarms: int = 0


@dataclass(frozen=True)
class Monitored:
    """`models`: those that answer, then shadows, then those that were replaced, the latest 20 of them and the latest
    first. `older`: the others. `unread`: lines of the journal that are no answers. `untimely`: answers that are left
    out, as their time cannot be. `page`: None where none was written."""

    models: tuple[Watched, ...]
    unread: int
    untimely: int
    older: Older
    page: Path | None = None

    @property
    def in_full(self) -> tuple[Watched, ...]:
        """Those to tell all of: what answers now, and the latest that were replaced."""
        return self.models[: sum(not one.is_replaced for one in self.models) + TOLD_REPLACED]

    @property
    def in_short(self) -> tuple[Watched, ...]:
        return self.models[len(self.in_full) :]

    @property
    def has_alarm(self) -> bool:
        """Whether a model that answers now drifts."""
        return any(one.alarm is not None and not one.is_replaced for one in self.models)

    def to_json(self) -> dict[str, Any]:
        models = [one.to_json() for one in self.models]
        rest = {"older": asdict(self.older), "unread": self.unread, "untimely": self.untimely}
        return {"format": 1, "models": models, **rest}

    @property
    def notes(self) -> list[str]:
        """What is not in the numbers, in sentences."""
        told = [_summed_up(self.older)] if self.older.versions else []
        told += [f"{self.unread:,} lines of the journal could not be read"] if self.unread else []
        return told + ([_left_out(self.untimely)] if self.untimely else [])


def charted(one: Watched) -> dict[str, Any]:
    """What the page draws over time, and against what."""
    reference, pieces = one.reference, one.timeline.pieces
    total = sum(reference.counts.values()) if reference is not None else 0
    return {
        "pieces": [
            {
                "time": piece.start,
                "per_second": piece.answers / one.timeline.seconds,
                "confidence": piece.mean_confidence,
                "low": piece.low / piece.answers,
                "p50": piece.latency(0.5),
                "p99": piece.latency(0.99),
                "shares": {name: count / piece.answers for name, count in piece.classes.items()},
                "ratios": piece.ratios,
            }
            for piece in pieces
            if piece.answers
        ],
        "seconds": one.timeline.seconds,
        "reference_shares": {name: count / total for name, count in reference.counts.items()} if reference else {},
        "reference_examples": reference.examples if reference else 0,
        "spans": [(alarm.start, one.timeline.last if alarm.end is None else alarm.end) for alarm in one.alarms],
        **times_of(one),
        "told": [
            {
                "start": local(alarm.start),
                "end": local(alarm.end) if alarm.end is not None else "",
                "answers": alarm.answers,
                "sentences": [(signal.ratio, signal.sentence) for signal in alarm.worst],
            }
            for alarm in reversed(one.alarms)
        ],
    }


def times_of(one: Watched) -> dict[str, str]:
    """When it answered first and last, for people."""
    return {"from": local(one.timeline.first), "to": local(one.timeline.last)}


def _summed_up(older: Older) -> str:
    alarms = f"; their alarms: {older.alarms:,}" if older.alarms else ""
    return f"not listed: {older.versions:,} older versions that were replaced, after {older.answers:,} answers{alarms}"


def _left_out(count: int) -> str:
    return f"{count:,} answers are left out: their clock was before 2020, or more than a day ahead of this machine's"
