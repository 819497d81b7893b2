"""The verb `monitor`: a journal → what was answered, whether it is still what the model was made for, and a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from danlu.base import log
from danlu.base.bundle import is_bundle, open_bundle
from danlu.base.errors import ConfigError, MachineError, ModelError
from danlu.base.extras import require_extra
from danlu.base.journal import Journal, can_be
from danlu.base.runs import find_run
from danlu.monitoring.alarms import UNKNOWN, AlarmBook, Event, advice
from danlu.monitoring.drift import DAYS, DriftWatch, Look
from danlu.monitoring.found import Monitored, Older, Watched, charted, times_of
from danlu.monitoring.rows import row_of
from danlu.monitoring.timeline import Timeline
from danlu.prediction.reference import Reference, read_reference

PAGE = "monitor.html"
LOOK_SECONDS = 2.0
PAGE_SECONDS = 30.0
DAYS_BETWEEN = (0.01, 36_500)
MOST_REPLACED = 20  # versions that were replaced and are kept one by one
QUIET_SECONDS = 3600.0  # after which a version that was replaced is not expected to answer again
GONE_SECONDS = 86_400.0
Key = tuple[str, bool]  # a model, and whether it is a shadow
Places = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class MonitorSettings:
    """`bundle`: reference statistics are its own, where the journal has none. `since`: seconds before now, of what is
    read. `days`: in which one false alarm is expected. `page`: the file; None for none. `webhook`: where alarms are
    posted."""

    bundle: str | Path | None = None
    since: float | None = None
    days: float = DAYS
    page: str | Path | None = None
    webhook: str | None = None


def open_journal(places: Places) -> Journal:
    """The journal in a folder, or in several together. Raises `ConfigError` where one is none."""
    folders = [Path(places)] if isinstance(places, (str, Path)) else [Path(place) for place in places]
    if not folders:
        raise ConfigError("no journal given")
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"no journal at `{folder}`: it is no folder", hint="`danlu serve` writes one to journal/")
    return Journal(*folders)


class Monitor:
    """Reads a journal as it grows."""

    def __init__(self, places: Places, settings: MonitorSettings) -> None:
        self.journal, self.settings = open_journal(places), settings
        self._after = time.time() - settings.since if settings.since is not None else 0.0
        self._own = _reference_of(settings.bundle)
        self._timelines: dict[Key, Timeline] = {}
        self._books: dict[Key, AlarmBook | None] = {}
        self._older: dict[Key, tuple[int, int]] = {}  # answers and alarms of each
        self._foreign = self._untimely = 0
        self._has_read = False

    def read(self) -> list[Event]:
        """Take what is new in the journal; what happened."""
        events: list[Event] = []
        self._books = {key: book for key, book in self._books.items() if book is not None}  # a reference may have come
        now = time.time()
        for content in self.journal.rows():
            row = row_of(content)
            if row is None:
                self._foreign += 1
                continue
            if not can_be(row.time, now):
                self._untimely += 1
                continue
            if row.time < self._after:
                continue
            key = (row.model, row.is_shadow)
            is_new = key not in self._timelines
            timeline = self._timelines.setdefault(key, Timeline())
            timeline.add(row)
            if is_new:
                events += self._retire()
            book = self._book_of(key)
            if book is not None:
                events += _kept(timeline, *book.add(row))
        self._has_read = True
        return events + self._retire()

    def _retire(self) -> list[Event]:
        """Give back what versions hold that were replaced: a service may take another each hour, for years. Their
        numbers and alarms stay; beyond 20, only the sums of those. What happened in their last answers."""
        events: list[Event] = []
        newest = max((timeline.last for timeline in self._timelines.values()), default=0.0)
        replaced = sorted(filter(self._is_replaced, self._timelines), key=lambda key: -self._timelines[key].last)
        for place, key in enumerate(replaced):
            timeline, book = self._timelines[key], self._books.get(key)
            is_older = place >= MOST_REPLACED
            if book is not None and (is_older or newest - timeline.last > QUIET_SECONDS):
                events += _kept(timeline, *book.catch_up())
                book.watch.release()
            if is_older:
                answers, alarms = self._older.get(key, (0, 0))
                alarms += len(book.alarms) if book is not None else 0
                self._older[key] = (answers + timeline.whole().answers, alarms)
                del self._timelines[key]
                self._books.pop(key, None)
        return events

    def catch_up(self, time: float | None = None) -> list[Event]:
        """Look at what came since the last looks; see `DriftWatch.catch_up`."""
        events: list[Event] = []
        for key, timeline in self._timelines.items():
            book = self._books.get(key)
            if book is not None:
                events += _kept(timeline, *book.catch_up(time))
        return events

    def result(self) -> Monitored:
        """What is known so far."""
        models = [self._watched(key) for key in self._timelines]
        models.sort(key=lambda one: (one.is_replaced, -one.timeline.last * one.is_replaced, one.is_shadow, one.model))
        answers, alarms = (sum(one[place] for one in self._older.values()) for place in (0, 1))
        older = Older(len(self._older), answers, alarms)
        return Monitored(tuple(models), self.journal.torn + self._foreign, self._untimely, older)

    def _is_replaced(self, key: Key) -> bool:
        (model, is_shadow), timeline = key, self._timelines[key]
        return any(
            _follows((other, later), model, timeline)
            for (other, other_is_shadow), later in self._timelines.items()
            if other_is_shadow == is_shadow
        )

    def _watched(self, key: Key) -> Watched:
        (model, is_shadow), timeline, book = key, self._timelines[key], self._books.get(key)
        is_replaced = self._is_replaced(key)
        if book is None:
            return Watched(model, UNKNOWN, timeline, (), None, None, is_shadow, is_replaced)
        alarms, reference = tuple(book.alarms), book.watch.reference
        return Watched(model, book.state, timeline, alarms, book.look, reference, is_shadow, is_replaced)

    def _book_of(self, key: Key) -> AlarmBook | None:
        if key not in self._books:
            model, found = key[0], self._own.get(key[0])
            try:
                content = self.journal.reference(model) if found is None else None
                found = Reference.from_json(content, f"the journal, of {model}") if content is not None else found
            except ModelError as error:
                if not self._has_read:
                    raise
                log.warn(f"{model} is not compared with anything: {error.message}")
            self._books[key] = AlarmBook(model, DriftWatch(found, self.settings.days)) if found is not None else None
        return self._books[key]


def _reference_of(place: str | Path | None) -> dict[str, Reference]:
    """That of a bundle, by its model."""
    if place is None:
        return {}
    bundle = open_bundle(place if is_bundle(place) else find_run(place).bundle_folder)
    return {bundle.model: read_reference(bundle)}


def monitor(places: Places, settings: MonitorSettings = MonitorSettings()) -> Monitored:
    """Read a journal, or those of several replicas together, to the end and write a page. Alarms that still last are
    posted to the webhook.

    Raises `ConfigError` where there is no journal or nothing in it, and `ModelError` for damaged reference statistics.

    >>> monitor("journal").models[0].state     # doctest: +SKIP
    'steady'
    """
    from danlu.monitoring.webhook import post

    _check(settings)
    reader = Monitor(places, settings)
    reader.read()
    reader.catch_up()
    found = reader.result()
    if not found.models:
        told = ", ".join(f"`{folder}`" for folder in reader.journal.folders)
        raise ConfigError(
            "; ".join([f"nothing was answered in {told}" + (" in this time" if settings.since else ""), *found.notes]),
            hint="is the clock right, of the service and of this machine?" if found.untimely else None,
        )
    _check_bundle(found, settings)
    if settings.webhook is not None:
        for event in _lasting(found):
            post(settings.webhook, event)
    return _with_page(found, settings)


def watch(
    places: Places,
    settings: MonitorSettings = MonitorSettings(),
    tell: Callable[[Event], None] | None = None,
    *,
    seconds: float = LOOK_SECONDS,
) -> Iterator[Monitored]:
    """As `monitor`, while the journal grows, for ever: what is known after each look, every `seconds`.

    What happens while it watches goes to `tell` and to the webhook; the page is written every half minute.
    """
    from danlu.monitoring.webhook import post

    _check(settings)
    reader = Monitor(places, settings)
    reader.read()
    reader.catch_up(time.time())
    news = _lasting(reader.result())  # what began while nobody watched
    written = float("-inf")
    while True:
        for event in news:
            if tell is not None:
                tell(event)
            if settings.webhook is not None:
                post(settings.webhook, event)
        found = reader.result()
        if settings.page is not None and found.models and time.monotonic() - written >= PAGE_SECONDS:
            try:
                found = _with_page(found, settings, refresh=int(PAGE_SECONDS))
            except MachineError as error:
                log.warn(f"the page is not written: {error.message}")
            written = time.monotonic()
        yield found
        time.sleep(seconds)
        news = [*reader.read(), *reader.catch_up(time.time())]


def _lasting(found: Monitored) -> list[Event]:
    """The alarms that are not over, as news."""
    return [
        Event(one.state, one.model, one.alarm.last, one.alarm.worst[0].sentence, tuple(one.alarm.worst))
        for one in found.models
        if one.alarm is not None and not one.is_replaced
    ]


def _check(settings: MonitorSettings) -> None:
    if not DAYS_BETWEEN[0] <= settings.days <= DAYS_BETWEEN[1]:
        raise ConfigError(f"days between false alarms are from 0.01 to 36,500, got {settings.days:g}")
    if settings.page is not None:
        require_extra("monitor", "the monitor's page")
    if settings.webhook is not None and not settings.webhook.startswith(("http://", "https://")):
        raise ConfigError("a webhook is an address that starts with http:// or https://")


def _check_bundle(found: Monitored, settings: MonitorSettings) -> None:
    if settings.bundle is not None and all(one.reference is None for one in found.models):
        there = ", ".join(f"`{one.model}`" for one in found.models)
        raise ConfigError(f"the journal has no answers of `{settings.bundle}`, it has those of {there}")


def _with_page(found: Monitored, settings: MonitorSettings, *, refresh: int | None = None) -> Monitored:
    if settings.page is None:
        return found
    from danlu.reporting.monitor_page import write_monitor

    path = Path(settings.page)
    write_monitor(
        path,
        [{**one.to_json(), **charted(one)} for one in found.in_full],
        short=[{**one.to_json(), **times_of(one)} for one in found.in_short],
        notes=found.notes,
        days=settings.days,
        advice=_advice(found),
        refresh=refresh,
    )
    return replace(found, page=path)


def _advice(found: Monitored) -> str:
    return advice({one.model: one.state for one in found.models if not one.is_replaced})


def _kept(timeline: Timeline, looks: Sequence[Look], events: list[Event]) -> list[Event]:
    for look in looks:
        timeline.mark(look.time, look.ratios)
    return events


def _follows(later: tuple[str, Timeline], model: str, timeline: Timeline) -> bool:
    """Whether another version of a model took its place: it began when this one ended, but for workers that took it a
    little sooner than others. Versions that share the requests answer side by side. A model of another name did so
    where this one has been silent for a day."""
    name, other = later
    overlap = timeline.last - other.first
    if name == model or other.last <= timeline.last or overlap > (timeline.last - timeline.first) / 2:
        return False
    return name.rpartition("@")[0] == model.rpartition("@")[0] or other.last - timeline.last >= GONE_SECONDS
