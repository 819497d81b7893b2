"""What the service counts, for Prometheus. Workers write into files of one folder, which any of them sums up."""

from __future__ import annotations

import os
from functools import cache

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """The counters of one worker."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        own = CollectorRegistry()
        self._own = own
        self.requests = Counter("danlu_requests", "Requests by route and status.", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "danlu_request_seconds", "From the header to the answer.", ["route"], buckets=SECONDS, registry=own
        )
        self.answers = Counter("danlu_answers", "Answers by most probable class.", ["model", "label"], registry=own)
        self.unknown = Counter("danlu_unknown", "Answers below the threshold.", ["model"], registry=own)
        self.confidence = Histogram(
            "danlu_confidence", "Probability of the answer.", ["model"], buckets=SHARES, registry=own
        )
        self.shadow = Counter("danlu_shadow", "Inputs for the shadow by outcome.", ["outcome"], registry=own)
        self.reloads = Counter("danlu_reloads", "Bundles replaced while serving.", ["outcome"], registry=own)

        self.lost = Counter("danlu_journal_lost", "Answers that are missing in the journal.", registry=own)
        self._request = cache(lambda route, status: (self.requests.labels(route, status), self.seconds.labels(route)))
        self._answer = cache(
            lambda model, label: (
                self.answers.labels(model, label),
                self.confidence.labels(model),
                self.unknown.labels(model),
            )
        )
        self._request("/predict", "200")  # makes the files now: on a full disk the service does not start

    def request(self, route: str, status: int, seconds: float) -> None:
        count, taken = self._request(route, str(status))
        count.inc()
        taken.observe(seconds)

    def answered(self, model: str, label: str, confidence: float, *, is_unknown: bool) -> None:
        """`label`: the most probable class, also where the answer is `unknown`."""
        count, confidences, unknown = self._answer(model, label)
        count.inc()
        confidences.observe(confidence)
        if is_unknown:
            unknown.inc()

    def page(self) -> bytes:
        """The numbers of all workers in the text format of Prometheus."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if FOLDER not in os.environ:
            return generate_latest(self._own)
        whole = CollectorRegistry()
        MultiProcessCollector(whole)
        return generate_latest(whole)
