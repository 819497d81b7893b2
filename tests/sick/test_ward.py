"""The ward itself: the sick are sick, the healthy are healthy, and its table counts right."""

from __future__ import annotations

import pytest
from ward import HEALTHY, HEALTHY_SLOW, SICK, SICK_SLOW, free_name, on_digits, reviews, score_of

from danlu.base.runs import Run


def test_reviews_are_half_positive_and_none_stands_twice() -> None:
    texts, labels = reviews()
    assert len(set(texts)) == len(texts) == 2000
    assert labels.mean() == 0.5


def test_healthy_runs_go_over_models_and_data() -> None:
    assert len(HEALTHY) >= 14
    assert not set(HEALTHY) & (set(SICK) | set(HEALTHY_SLOW))


def test_a_run_of_the_ward_is_the_same_bits_again() -> None:
    one, two = SICK["one_epoch"].make(), SICK["one_epoch"].make()
    assert one.name != two.name
    assert [row["loss"] for row in one.steps()] == [row["loss"] for row in two.steps()]


def test_a_run_that_fails_is_returned() -> None:
    run = SICK["nan_pixel"].make()
    assert run.status()["state"] == "failed"
    assert score_of(run) is None


def test_macro_recall_counts_every_class_alike() -> None:
    run = Run(SICK["equal_images"].make().folder)
    run.answers_file("validation").write_text(
        "key,truth,answer,confidence,probability_of_truth\n0,a,a,1,1\n1,a,a,1,1\n2,a,a,1,1\n3,b,a,1,0\n",
        encoding="utf-8",
    )
    assert score_of(run) == 0.75
    assert score_of(run, "macro_recall") == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in (SICK | SICK_SLOW).items() if case.is_worse])
def test_sick_run_is_clearly_worse_than_the_same_without_its_fault(name: str) -> None:
    case = (SICK | SICK_SLOW)[name]
    sick, well = score_of(case.make(), case.score), score_of(case.well(), case.score)
    assert well is not None
    assert sick is None or sick < well - 0.04


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEALTHY, *HEALTHY_SLOW])
def test_healthy_run_answers_well(name: str) -> None:
    run = {**HEALTHY, **HEALTHY_SLOW}[name]()
    assert (score_of(run) or 0) > 0.75


def test_names_of_runs_are_never_taken() -> None:
    first = on_digits("twice", training__epochs=1)()
    assert first.name == "twice"
    assert free_name("twice") == "twice-2"
