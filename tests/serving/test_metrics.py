"""Counters are added up in memory and told to Prometheus together."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from danlu.serving.metrics import SECONDS, SHARES, Metrics

SAME = re.compile(r"^(\S+_(?:bucket|count|sum)\S*) (\S+)$", re.MULTILINE)


def numbers(page: str, name: str) -> dict[str, float]:
    found = {key: float(value) for key, value in SAME.findall(page) if key.startswith(name)}
    assert found
    return found


@given(st.lists(st.floats(0, 20) | st.sampled_from(SECONDS), min_size=1, max_size=50))
def test_times_are_counted_as_prometheus_counts_them(values: list[float]) -> None:
    own, metrics = CollectorRegistry(), Metrics()
    theirs = Histogram("danlu_request_seconds", "", ["route"], buckets=SECONDS, registry=own)
    for value in values:
        theirs.labels("/predict").observe(value)
        metrics.request("/predict", 200, value)
    expected = numbers(generate_latest(own).decode(), "danlu_request_seconds")
    assert numbers(metrics.page().decode(), "danlu_request_seconds") == pytest.approx(expected)


def test_answers_are_counted_by_model_class_and_confidence() -> None:
    metrics = Metrics()
    for label, confidence in (("cat", 0.3), ("cat", 0.95), ("dog", 1.0)):
        metrics.answered("pets@1", label, confidence, is_unknown=confidence < 0.5)
    page = metrics.page().decode()
    assert 'danlu_answers_total{label="cat",model="pets@1"} 2.0' in page
    assert 'danlu_answers_total{label="dog",model="pets@1"} 1.0' in page
    assert 'danlu_unknown_total{model="pets@1"} 1.0' in page
    buckets = numbers(page, "danlu_confidence_bucket")
    assert list(buckets.values()) == [sum(value <= bound for value in (0.3, 0.95, 1.0)) for bound in (*SHARES, 9)]
    assert metrics.page().decode() == page, "nothing is counted twice"


def test_what_was_flushed_and_what_was_not_add_up() -> None:
    metrics = Metrics()
    for number in range(10):
        metrics.request("/predict", 200 if number % 2 else 503, 0.01)
        if number == 6:
            metrics.flush()
    page = metrics.page().decode()
    assert 'danlu_requests_total{route="/predict",status="200"} 5.0' in page
    assert 'danlu_requests_total{route="/predict",status="503"} 5.0' in page
    assert 'danlu_request_seconds_count{route="/predict"} 10.0' in page
