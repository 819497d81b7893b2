"""Calibration, temperature and rejection: what the numbers must be, and what a promise of an error rate is worth."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.base.errors import ModelError
from danlu.scores.calibration import (
    Calibration,
    chance_calibration_error,
    choose_threshold,
    examples_needed,
    expected_calibration_error,
    fit_temperature,
    reliability,
    risk_coverage,
)
from danlu.scores.classification import log_loss


def model(number: int, temperature: float, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model whose logits are `temperature` times too large, and labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (number, classes))
    true = softmax(logits)
    labels = (rng.random((number, 1)) > true.cumsum(1)).sum(1).clip(0, classes - 1)
    return softmax(temperature * logits), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    result: np.ndarray = shifted / shifted.sum(1, keepdims=True)
    return result


def error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return expected_calibration_error(probabilities.max(1), probabilities.argmax(1) == labels)


@pytest.mark.parametrize("temperature", [0.4, 0.8, 1.0, 1.5, 3.0])
def test_fitted_temperature_is_the_one_the_logits_are_too_large_by(temperature: float) -> None:
    assert fit_temperature(*model(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_temperature_has_the_least_log_loss() -> None:
    probabilities, labels = model(3000, 2.5)
    fitted = fit_temperature(probabilities, labels)
    losses = {t: log_loss(Calibration(t).apply(probabilities), labels) for t in (fitted * 0.97, fitted, fitted * 1.03)}
    assert min(losses, key=lambda t: losses[t]) == fitted


def test_calibration_error_of_an_over_confident_model_falls_on_other_examples() -> None:
    fitted = Calibration(fit_temperature(*model(2000, 3.0, seed=1)))
    probabilities, labels = model(5000, 3.0, seed=2)
    before, after = error(probabilities, labels), error(fitted.apply(probabilities), labels)
    assert before > 0.1
    assert after < 0.2 * before


def test_few_right_answers_do_not_make_a_model_certain() -> None:
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.55, 0.45]])
    labels = np.array([0, 1, 0])
    assert 0.4 < fit_temperature(probabilities, labels) < 1
    many = fit_temperature(np.tile(probabilities, (200, 1)), np.tile(labels, 200))
    assert many < 0.2


def test_temperature_is_the_best_of_all_also_where_halving_would_stop_elsewhere() -> None:
    probabilities = np.tile([0.505, 0.495], (100, 1))
    labels = (np.arange(100) >= 95).astype(np.int64)
    assert fit_temperature(probabilities, labels) < 0.05


def test_calibration_error_by_chance_is_what_a_calibrated_model_has() -> None:
    rng = np.random.default_rng(0)
    below = []
    for _ in range(200):
        confidence = rng.beta(5, 1, 80)
        error_ = expected_calibration_error(confidence, rng.random(80) < confidence)
        below.append(error_ <= chance_calibration_error(confidence, draws=100))
    assert 0.9 <= np.mean(below) <= 0.99


def test_threshold_counts_equal_confidences_together() -> None:
    confidence = np.array([0.99] * 200 + [0.9] * 400)
    right = np.array([True] * 200 + [True] * 200 + [False] * 200)
    assert choose_threshold(confidence, right, 0.05) == 0.99


def test_probabilities_of_exactly_0_and_1_are_no_trouble() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]] * 50)
    fitted = fit_temperature(certain, np.array([0, 0] * 50))
    assert np.isfinite(fitted)
    assert np.isfinite(Calibration(fitted).apply(certain)).all()


@given(st.floats(0.05, 20), st.integers(0, 50))
def test_temperature_changes_no_answer_and_rows_stay_probabilities(temperature: float, seed: int) -> None:
    probabilities, _ = model(20, 1.0, seed=seed)
    cooled = Calibration(temperature).apply(probabilities)
    assert cooled.sum(1) == pytest.approx(np.ones(20))
    assert (cooled.argmax(1) == probabilities.argmax(1)).all()


def test_temperature_of_probabilities_is_that_of_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 5))
    assert Calibration(1.7).apply(softmax(logits)) == pytest.approx(softmax(logits / 1.7), abs=1e-12)


def test_calibration_error_of_a_worked_example() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.61, 0.61])
    right = np.array([True, True, True, False, True, False])
    assert expected_calibration_error(confidence, right) == pytest.approx((4 * 0.20 + 2 * 0.11) / 6)


def test_bins_hold_every_example_once() -> None:
    confidence = np.append(np.random.default_rng(0).random(999), 1.0)
    rows = reliability(confidence, np.ones(1000, bool))
    assert sum(row.count for row in rows) == 1000
    assert all(row.low <= row.confidence <= row.high for row in rows)
    assert rows[-1].high == 1.0


def test_risk_falls_to_the_right_of_nothing_for_a_model_that_knows_when_it_errs() -> None:
    confidence = np.linspace(0.5, 1, 1000)
    curve = risk_coverage(confidence, confidence > 0.6)
    assert [point.coverage for point in curve] == sorted(point.coverage for point in curve)
    assert curve[-1].coverage == 1
    assert curve[-1].error == pytest.approx(0.2, abs=0.005)
    assert next(point for point in curve if point.coverage > 0.7).error == 0


def test_equal_confidences_are_answered_together() -> None:
    curve = risk_coverage(np.array([0.9, 0.9, 0.5, 0.5]), np.array([True, False, True, True]))
    assert [(point.threshold, point.coverage, point.error) for point in curve] == [(0.9, 0.5, 0.5), (0.5, 1.0, 0.25)]


def promise(seed: int, number: int, max_error: float) -> tuple[float | None, float]:
    """The threshold chosen on `number` examples, and the error among what it accepts of very many others."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(5, 1, number)
    threshold = choose_threshold(confidence, rng.random(number) < 1 - 0.8 * (1 - confidence), max_error)
    others = rng.beta(5, 1, 200_000)
    wrong = 0.8 * (1 - others)
    return threshold, float(wrong[others >= threshold].mean()) if threshold is not None else 0.0


def test_promised_error_rate_is_kept_in_19_of_20_cases_and_more() -> None:
    for number, max_error in ((500, 0.1), (2000, 0.05)):
        found = [promise(seed, number, max_error) for seed in range(150)]
        broken = sum(reached > max_error for _, reached in found)
        assert broken <= 0.05 * 150 + 4
        assert sum(threshold is not None for threshold, _ in found) > 100


def test_wished_error_rate_that_always_holds_answers_everything() -> None:
    confidence = np.random.default_rng(0).random(2000)
    assert choose_threshold(confidence, np.ones(2000, bool), 0.05) == confidence.min()


def test_too_few_examples_promise_nothing() -> None:
    number = examples_needed(0.05)
    assert choose_threshold(np.linspace(0.9, 1, number - 1), np.ones(number - 1, bool), 0.05) is None
    assert choose_threshold(np.linspace(0.9, 1, number), np.ones(number, bool), 0.05) == 0.9


def test_model_that_is_always_wrong_answers_nothing() -> None:
    assert choose_threshold(np.linspace(0.5, 1, 500), np.zeros(500, bool), 0.1) is None


def test_calibration_survives_json() -> None:
    calibration = Calibration(1.3, 700, 0.9, 0.02)
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert calibration.accepts(np.array([0.89, 0.9])).tolist() == [False, True]
    assert Calibration().accepts(np.array([0.0])).tolist() == [True]


def test_memory_beside_the_answers_of_thousands_of_classes_stays_small() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(2000), size=2000)
    labels = rng.integers(0, 2000, 2000)
    tracemalloc.start()
    temperature = fit_temperature(probabilities, labels)
    Calibration(temperature).apply(probabilities)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * probabilities.nbytes  # one more table of the same size, and no third


@pytest.mark.parametrize("cells", [1, 12, 100])
def test_temperature_is_the_same_in_blocks_of_any_size(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, labels = model(103, 2.5)
    whole = fit_temperature(probabilities, labels)
    applied = Calibration(2.5).apply(probabilities)
    monkeypatch.setattr("danlu.scores.calibration.CELLS_AT_ONCE", cells)
    assert fit_temperature(probabilities, labels) == pytest.approx(whole, rel=1e-9)
    assert np.array_equal(Calibration(2.5).apply(probabilities), applied)


@pytest.mark.parametrize(
    "change",
    [
        {"examples": float("inf")},
        {"threshold": float("nan"), "max_error": 0.1},
        {"threshold": 0.9},
        {"max_error": 0.1},
        {"threshold": 2.0, "max_error": 0.1},
        {"threshold": 0.9, "max_error": float("nan")},
        {"threshold": 0.9, "max_error": 1.5},
    ],
)
def test_calibration_that_no_run_wrote_is_refused(change: dict[str, float]) -> None:
    sound = {"temperature": 1.0, "examples": 9, "threshold": None, "max_error": None}
    assert Calibration.from_json(sound).threshold is None
    with pytest.raises(ModelError, match="the saved calibration is damaged"):
        Calibration.from_json({**sound, **change})
