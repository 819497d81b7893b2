"""The statistics that travel with a model: what they hold, and that damaged ones are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from danlu.base.errors import ModelError
from danlu.prediction.reference import LEVELS, FeatureSummary, Reference, numbers_of

CLASSES = ("a", "b", "c")


def reference(count: int = 400, features: int = 12) -> Reference:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], count)
    summary = FeatureSummary.learnt(rng.normal(size=(300, features)) * np.arange(1, features + 1))
    return Reference.of(CLASSES, probabilities, rng.normal(size=(count, features)), summary)


def test_directions_are_uncorrelated_and_of_variance_one_on_what_they_were_learnt_from() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 20)) + 3
    found = FeatureSummary.learnt(features).of(features)
    assert found.shape == (500, 5), "four directions hold all that there is"
    assert np.cov(found[:, 1:].T) * 499 / 500 == pytest.approx(np.eye(4), abs=1e-5)
    assert found[:, 0].mean() == pytest.approx(1)


def test_features_that_never_change_have_no_directions() -> None:
    summary = FeatureSummary.learnt(np.ones((50, 6)))
    assert summary.names == ["distance"] and summary.of(np.ones((2, 6))).tolist() == [[0.0], [0.0]]


def test_quantiles_are_values_that_occurred_rounded_as_in_the_journal() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 100)
    found = Reference.of(CLASSES, probabilities, np.zeros((100, 2)), FeatureSummary.learnt(np.eye(2)))
    occurred = set(numbers_of(probabilities, None, None)[:, 0].tolist())
    assert set(found.distributions["confidence"].tolist()) == occurred
    assert found.counts == dict(zip(CLASSES, np.bincount(probabilities.argmax(1), minlength=3).tolist(), strict=True))


def test_reference_is_the_same_after_a_journey_through_json() -> None:
    before = reference()
    after = Reference.from_json(json.loads(json.dumps(before.to_json())), "r")
    assert after.to_json() == before.to_json()
    assert after.summary is not None and after.summary.names[-1] == "direction 8"


def test_first_format_is_read_without_features() -> None:
    points = np.linspace(0, 1, 101).tolist()
    content = {
        "format": 1,
        "examples": 200,
        "confidence": points,
        "entropy": points,
        "class_shares": {"a": 0.25, "b": 0.75},
        "features": {"mean": [0.0], "std": [1.0]},
    }
    found = Reference.from_json(content, "r")
    assert found.counts == {"a": 50, "b": 150} and found.summary is None
    assert found.distributions["entropy"] == pytest.approx(LEVELS)


def test_entropy_is_in_nats_and_numbers_have_six_decimals() -> None:
    """As in every journal and every bundle that there is already."""
    found = numbers_of(np.array([[0.25, 0.25, 0.25, 0.25], [0.1234564, 0.8765436, 0.0, 0.0]]), None, None)
    assert found[0].tolist() == [0.25, 1.386294]
    assert found[1, 0] == 0.876544


def test_numbers_of_extreme_features_are_such_as_a_monitor_reads() -> None:
    summary = FeatureSummary.learnt(np.eye(3))
    found = numbers_of(np.array([[1.0, 0.0]]), np.array([[1e30, -1e30, 7.0]]), summary)
    assert np.abs(found).max() == 1000


def test_numbers_of_broken_features_stay_numbers() -> None:
    summary = FeatureSummary.learnt(np.eye(3))
    found = numbers_of(np.array([[1.0, 0.0]]), np.array([[np.nan, np.inf, -np.inf]]), summary)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 3),
        (("format",), None),
        (("examples",), "many"),
        (("examples",), 0),
        (("examples",), 399),
        (("counts",), {"a": 3 * 10**9}),
        (("counts",), {}),
        (("counts",), {"a": -1}),
        (("distributions",), {}),
        (("distributions", "confidence"), [0.0]),
        (("distributions", "confidence"), [1.0] * 200 + [0.0]),
        (("distributions", "confidence"), [float("nan")] * 201),
        (("features", "scale"), [0.0] * 12),
        (("features", "mean"), [0.0] * 11),
        (("features", "directions"), [[0.0]] * 8),
        (("features",), {"mean": [0.0]}),
        (("features",), None),
    ],
)
def test_damaged_statistics_are_refused(path: tuple[str, ...], value: Any) -> None:
    content = reference().to_json()
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ModelError, match=r"reference\.json"):
        Reference.from_json(content, "reference.json")


@pytest.mark.parametrize("content", [None, [], "x", {}, {"format": 2}, 7])
def test_what_is_no_object_is_refused(content: Any) -> None:
    with pytest.raises(ModelError):
        Reference.from_json(content, "r")


def test_feature_that_is_constant_but_for_rounding_is_not_blown_up() -> None:
    features = np.full((300, 3), 0.5) + np.random.default_rng(0).integers(0, 3, (300, 3)) * 6e-8
    assert FeatureSummary.learnt(features).scale.tolist() == [1.0] * 3


def test_numbers_are_computed_with_the_summary_as_it_is_read_again() -> None:
    before = reference()
    after = Reference.from_json(json.loads(json.dumps(before.to_json())), "r")
    assert before.summary is not None and after.summary is not None
    features = np.random.default_rng(3).normal(size=(20, 12))
    assert before.summary.of(features).tolist() == after.summary.of(features).tolist()
