"""Metrics against scikit-learn's on random tables, and intervals against published values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from danlu.scores import classification
from danlu.scores.classification import (
    averages,
    class_scores,
    confusion_matrix,
    log_loss,
    mean_interval,
    most_confused,
    score_intervals,
    top_k_accuracy,
    wilson_interval,
)

tables = st.tuples(st.integers(2, 7), st.integers(1, 60), st.integers(0, 2**32 - 1))


def random_table(table: tuple[int, int, int]) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(classes, labels, probabilities, predicted labels); some classes never occur or are never answered."""
    classes, count, seed = table
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=rng.dirichlet(np.full(classes, 0.5)))
    probabilities = rng.dirichlet(np.full(classes, 0.5), count)
    probabilities = np.clip(probabilities, 1e-9, None)
    probabilities /= probabilities.sum(1, keepdims=True)
    return classes, labels, probabilities, probabilities.argmax(1)


@settings(max_examples=150, deadline=None)
@given(tables)
def test_confusion_and_class_scores_equal_those_of_scikit_learn(table: tuple[int, int, int]) -> None:
    classes, labels, _, predicted = random_table(table)
    confusion = confusion_matrix(labels, predicted, classes)
    assert np.array_equal(confusion, metrics.confusion_matrix(labels, predicted, labels=range(classes)))
    expected = metrics.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
    for row, precision, recall, f1, support in zip(class_scores(confusion), *expected, strict=True):
        assert np.allclose((row.precision, row.recall, row.f1), (precision, recall, f1), rtol=0, atol=1e-12)
        assert row.support == support
    assert [row.answered for row in class_scores(confusion)] == np.bincount(predicted, minlength=classes).tolist()


@settings(max_examples=150, deadline=None)
@given(tables)
def test_averages_equal_those_of_scikit_learn(table: tuple[int, int, int]) -> None:
    classes, labels, _, predicted = random_table(table)
    found = averages(class_scores(confusion_matrix(labels, predicted, classes)))
    for kind in ("macro", "weighted"):
        expected = metrics.precision_recall_fscore_support(labels, predicted, average=kind, zero_division=0)[:3]
        row = found[kind]
        assert np.allclose((row.precision, row.recall, row.f1), expected, rtol=0, atol=1e-12)
        assert row.support == len(labels)


def test_class_that_is_only_answered_counts_in_the_macro_mean() -> None:
    row = averages(class_scores(confusion_matrix(np.array([0, 0, 1]), np.array([0, 2, 1]), 4)))["macro"]
    assert row.precision == pytest.approx(2 / 3)
    assert row.recall == pytest.approx(0.5)


@settings(max_examples=150, deadline=None)
@given(tables)
def test_log_loss_equals_that_of_scikit_learn(table: tuple[int, int, int]) -> None:
    classes, labels, probabilities, _ = random_table(table)
    expected = metrics.log_loss(labels, probabilities, labels=range(classes))
    assert log_loss(probabilities, labels) == pytest.approx(expected, rel=0, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(tables, st.integers(1, 7))
def test_top_k_accuracy_equals_that_of_scikit_learn(table: tuple[int, int, int], k: int) -> None:
    classes, labels, _, _ = random_table(table)
    rng = np.random.default_rng(table[2])
    scores = rng.permuted(np.tile(np.arange(classes), (len(labels), 1)), axis=1) + 0.5  # no two are equal
    if classes == 2 or k >= classes:  # scikit-learn reads two columns otherwise and warns when k takes all
        order = np.argsort(-scores, axis=1)[:, :k]
        expected = float((order == labels[:, None]).any(1).mean())
    else:
        expected = metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(classes))
    assert top_k_accuracy(scores, labels, k) == pytest.approx(expected, rel=0, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(tables)
def test_top_1_accuracy_is_the_accuracy_also_where_probabilities_are_equal(table: tuple[int, int, int]) -> None:
    _, labels, probabilities, _ = random_table(table)
    for rows in (probabilities, probabilities.round(1), np.ones_like(probabilities)):
        assert top_k_accuracy(rows, labels, 1) == pytest.approx(float((rows.argmax(1) == labels).mean()), abs=1e-12)


def test_model_that_answers_nan_is_never_right() -> None:
    assert top_k_accuracy(np.full((4, 5), np.nan), np.array([0, 1, 2, 3]), 3) == 0


def test_certain_and_wrong_costs_a_large_finite_loss() -> None:
    loss = log_loss(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert loss == pytest.approx(-np.log(np.finfo(np.float64).eps))


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By symmetry.
        (20, 20, 0.8389, 1.0),
        (28, 29, 0.8282, 0.9939),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval_equals_published_values(right: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 10_000), st.integers(1, 10_000))
@settings(max_examples=200, deadline=None)
def test_wilson_interval_holds_the_share_and_stays_between_0_and_1(right: int, total: int) -> None:
    right = min(right, total)
    low, high = wilson_interval(right, total)
    assert 0 <= low <= right / total + 1e-12
    assert right / total - 1e-12 <= high <= 1
    assert wilson_interval(total - right, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def answers(seed: int, number: int, right: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, number)
    return labels, np.where(rng.random(number) < right, labels, rng.integers(0, 3, number))


def test_score_intervals_hold_the_estimate_and_come_out_the_same_again() -> None:
    confusion = confusion_matrix(*answers(0, 200, 0.8), 3)
    found = score_intervals(confusion, draws=200)
    rows = class_scores(confusion)
    for kind, row in averages(rows).items():
        for name in ("precision", "recall", "f1"):
            low, high = found.averages[f"{kind}_{name}"]
            assert 0 < low < getattr(row, name) < high < 1
            assert high - low < 0.25
    for row, (low, high) in zip(rows, found.f1, strict=True):
        assert low < row.f1 < high
    assert found == score_intervals(confusion, draws=200)


def test_bootstrap_by_the_matrix_agrees_with_a_bootstrap_of_the_examples() -> None:
    labels, predicted = answers(1, 150, 0.7)
    rng = np.random.default_rng(2)
    macro, weighted, first = [], [], []
    for _ in range(400):
        chosen = rng.integers(0, 150, 150)
        rows = class_scores(confusion_matrix(labels[chosen], predicted[chosen], 3))
        macro.append(averages(rows)["macro"].f1)
        weighted.append(averages(rows)["weighted"].precision)
        first.append(rows[0].f1)
    found = score_intervals(confusion_matrix(labels, predicted, 3))
    for values, pair in (
        (macro, found.averages["macro_f1"]),
        (weighted, found.averages["weighted_precision"]),
        (first, found.f1[0]),
    ):
        assert pair == pytest.approx((np.quantile(values, 0.025), np.quantile(values, 0.975)), abs=0.03)


def test_class_without_an_example_or_answer_does_not_count_in_the_bootstrap() -> None:
    small = confusion_matrix(*answers(3, 100, 0.7), 3)
    large = np.zeros((5, 5), dtype=np.int64)
    large[:3, :3] = small
    assert score_intervals(large).averages == score_intervals(small).averages


@pytest.mark.parametrize(("number", "lowest"), [(1, 0.9), (20, 0.965), (500, 0.9985)])
def test_model_without_an_error_is_not_certain_to_have_none(number: int, lowest: float) -> None:
    found = score_intervals(np.diag([number] * 3))
    for low, high in [*found.averages.values(), *found.f1]:
        assert (low < lowest, high) == (True, 1)
    for low, _ in found.f1:
        assert low < wilson_interval(number, number)[0] + 0.1 + 0.2 / number


def test_class_without_an_example_has_no_interval() -> None:
    found = score_intervals(np.array([[5, 1, 0], [2, 6, 0], [0, 0, 0]]))
    assert found.f1[2] is None
    assert None not in found.f1[:2]


def test_intervals_of_many_classes_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    confusion = np.random.default_rng(0).integers(0, 3, (60, 60))
    whole = score_intervals(confusion, draws=400).averages["macro_f1"]
    monkeypatch.setattr(classification, "MOST_CELLS", 100_000)
    assert score_intervals(confusion, draws=400).averages["macro_f1"] == pytest.approx(whole, abs=0.003)


def test_intervals_of_few_examples_of_a_good_model_cover_the_truth() -> None:
    """Where a bootstrap has no width in one sample of five."""
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(800):
        labels = rng.integers(0, 10, 60)
        answers_ = np.where(rng.random(60) < 0.97, labels, (labels + rng.integers(1, 10, 60)) % 10)
        low, high = score_intervals(confusion_matrix(labels, answers_, 10), draws=200).averages["macro_recall"]
        hits.append(low <= 0.97 <= high)
    assert coverage(hits) >= 0.93


@pytest.mark.parametrize("number", [40, 499, 999, 1499, 5300])
def test_interval_of_a_mean_is_as_wide_as_the_normal_one(number: int) -> None:
    values = np.random.default_rng(0).exponential(2.0, number)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / np.sqrt(number)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), rel=0.12)


def coverage(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_wilson_intervals_cover_the_truth_in_93_to_97_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    for number in (100, 300, 1000):
        hits = []
        for share in rng.uniform(0.5, 0.97, 3000):
            low, high = wilson_interval(int(rng.binomial(number, share)), number)
            hits.append(low <= share <= high)
        assert 0.93 <= coverage(hits) <= 0.97, number


def test_score_intervals_cover_the_truth_in_93_to_97_of_100_samples() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([[30, 5, 2, 1], [6, 20, 4, 0], [3, 4, 12, 1], [1, 2, 1, 8]]) / 100
    rows = class_scores(np.round(truth * 1e9).astype(np.int64))
    expected = averages(rows)
    hits: dict[str, list[bool]] = {}
    for _ in range(1200):
        drawn = rng.multinomial(800, truth.reshape(-1)).reshape(4, 4)
        found = score_intervals(drawn, draws=300, seed=int(rng.integers(1 << 30)))
        for name, (low, high) in found.averages.items():
            kind, _, score = name.partition("_")
            hits.setdefault(name, []).append(low <= getattr(expected[kind], score) <= high)
        for row, (low, high) in zip(rows, found.f1, strict=True):
            hits.setdefault("f1 of a class", []).append(low <= row.f1 <= high)
    shares = {name: coverage(values) for name, values in hits.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


def test_mean_intervals_cover_the_truth_in_93_to_97_of_100_samples() -> None:
    rng = np.random.default_rng(2)
    hits = []
    for number in [600, 2500] * 250:
        low, high = mean_interval(rng.exponential(1.0, number), resamples=200, seed=int(rng.integers(1 << 30)))
        hits.append(low <= 1.0 <= high)
    assert 0.93 <= coverage(hits) <= 0.97


def test_most_confused_pairs_come_first_and_right_answers_never() -> None:
    confusion = np.array([[50, 3, 0], [7, 40, 1], [0, 0, 9]])
    assert most_confused(confusion) == [(1, 0, 7), (0, 1, 3), (1, 2, 1)]
    assert most_confused(confusion, count=1) == [(1, 0, 7)]
    assert most_confused(np.eye(3, dtype=int)) == []
    assert confusion[0, 0] == 50
