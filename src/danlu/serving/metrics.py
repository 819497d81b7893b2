"""What the service counts, for Prometheus. Workers write into files of one folder, which any of them sums up."""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import Any

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Tally:
    """Values since the last `take`, by bucket: Prometheus' own files take several writes for each value."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, math.inf)
        self._counts, self._total = [0] * len(self._bounds), 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def take(self) -> tuple[list[int], float]:
        """How many values came in each bucket, and their sum; it begins anew."""
        found = self._counts, self._total
        self._counts, self._total = [0] * len(self._bounds), 0.0
        return found


class Metrics:
    """The counters of one worker. What is added is in the files after `flush`, which a worker calls four times a
    second; one that is killed takes what it added since with it."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter

        histogram = _histogram()
        own = CollectorRegistry()
        self._own = own
        self.requests = Counter("danlu_requests", "Requests by route and status.", ["route", "status"], registry=own)
        self.seconds = histogram(
            "danlu_request_seconds", "From the header to the answer.", ["route"], buckets=SECONDS, registry=own
        )
        self.answers = Counter("danlu_answers", "Answers by most probable class.", ["model", "label"], registry=own)
        self.unknown = Counter("danlu_unknown", "Answers below the threshold.", ["model"], registry=own)
        self.confidence = histogram(
            "danlu_confidence", "Probability of the answer.", ["model"], buckets=SHARES, registry=own
        )
        self.shadow = Counter("danlu_shadow", "Inputs for the shadow by outcome.", ["outcome"], registry=own)
        self.reloads = Counter("danlu_reloads", "Bundles replaced while serving.", ["outcome"], registry=own)
        self.lost = Counter("danlu_journal_lost", "Answers that are missing in the journal.", registry=own)
        self._added: list[tuple[Tally, Any, Any]] = []  # with the counter and the histogram that take it
        self._of_route = cache(lambda route, status: self._tally(SECONDS, self.requests, self.seconds, route, status))
        self._of_answer = cache(lambda model, label: self._tally(SHARES, self.answers, self.confidence, model, label))
        self._unknown_of = cache(self.unknown.labels)
        self._of_route("/predict", "200")  # makes the files now: on a full disk the service does not start

    def request(self, route: str, status: int, seconds: float) -> None:
        self._of_route(route, str(status)).add(seconds)

    def answered(self, model: str, label: str, confidence: float, *, is_unknown: bool) -> None:
        """`label`: the most probable class, also where the answer is `unknown`."""
        self._of_answer(model, label).add(confidence)
        if is_unknown:
            self._unknown_of(model).inc()

    def flush(self) -> None:
        """Write what was added into the files, where the other workers find it."""
        for tally, counter, histogram in self._added:
            counts, total = tally.take()
            if count := sum(counts):
                counter.inc(count)
                histogram.take(counts, total)

    def page(self) -> bytes:
        """The numbers of all workers in the text format of Prometheus."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        self.flush()
        if FOLDER not in os.environ:
            return generate_latest(self._own)
        whole = CollectorRegistry()
        MultiProcessCollector(whole)
        return generate_latest(whole)

    def _tally(self, bounds: Sequence[float], counter: Any, histogram: Any, first: str, second: str) -> Tally:
        found = Tally(bounds)
        self._added.append((found, counter.labels(first, second), histogram.labels(first)))
        return found


def _histogram() -> Any:
    from prometheus_client import Histogram

    class CountedHistogram(Histogram):
        """One that takes many values at once, counted by bucket already."""

        def take(self, counts: Sequence[int], total: float) -> None:
            self._sum.inc(total)
            for bucket, count in zip(self._buckets, counts, strict=True):
                if count:
                    bucket.inc(count)

    return CountedHistogram
