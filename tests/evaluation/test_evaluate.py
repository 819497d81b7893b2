"""The verb `evaluate`: numbers that agree with the manifest, and data that must not have changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import danlu
from danlu.data.split import read_manifest
from danlu.evaluation.evaluate import Scored, score
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 6, "training.threads": 1}


@pytest.fixture
def trained(tmp_path: Path) -> danlu.Run:
    return danlu.train(write_pictures(tmp_path / "p"), QUICK)


def test_test_part_is_scored_and_written_with_how_often_it_was_looked_at(trained: danlu.Run) -> None:
    evaluation = danlu.evaluate(trained)
    expected = sum(row.part == "test" for row in read_manifest(trained.manifest_file))
    assert evaluation.examples == expected == sum(map(sum, evaluation.confusion))
    assert trained.status()["test_looks"] == 1
    danlu.evaluate(trained)
    assert json.loads(trained.evaluation_file.read_text(encoding="utf-8"))["test_looks"] == 2


def test_evaluation_agrees_with_predictions_from_the_files(trained: danlu.Run) -> None:
    evaluation = danlu.evaluate(trained)
    data = Path(trained.status()["data"])
    rows = [row for row in read_manifest(trained.manifest_file) if row.part == "test"]
    answers = danlu.load(trained).predict([data / row.key for row in rows])
    right = sum(answer.label == row.label for answer, row in zip(answers, rows, strict=True))
    assert evaluation.accuracy == right / len(rows)


def test_other_data_is_scored_without_touching_the_run(trained: danlu.Run, tmp_path: Path) -> None:
    other = write_pictures(tmp_path / "other", count=4, seed=9)
    evaluation = danlu.evaluate(trained, other)
    assert evaluation.examples == 12
    assert evaluation.accuracy > 0.9
    assert not trained.evaluation_file.exists()


def test_unknown_class_in_other_data_is_named(trained: danlu.Run, tmp_path: Path) -> None:
    other = write_pictures(tmp_path / "other", count=4)
    (other / "blue").rename(other / "navy")
    with pytest.raises(danlu.DataError, match=r"1 classes the model does not know, first: `navy`"):
        danlu.evaluate(trained, other)


def test_texts_for_an_image_model_are_refused(trained: danlu.Run, tmp_path: Path) -> None:
    with pytest.raises(danlu.DataError, match="holds texts, the model reads images"):
        danlu.evaluate(trained, write_reviews(tmp_path / "r.csv"))


@pytest.mark.parametrize("change", ["gone", "other"])
def test_test_example_that_is_gone_or_changed_is_named(trained: danlu.Run, change: str) -> None:
    row = next(row for row in read_manifest(trained.manifest_file) if row.part == "test")
    path = Path(trained.status()["data"]) / row.key
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    told = "are gone from" if change == "gone" else "have changed since training"
    with pytest.raises(danlu.DataError, match=told) as caught:
        danlu.evaluate(trained)
    assert row.key in str(caught.value)


def test_run_without_a_test_part_says_what_to_do(tmp_path: Path) -> None:
    run = danlu.train(write_pictures(tmp_path / "p"), {**QUICK, "data.split": [0.8, 0.2, 0.0]})
    with pytest.raises(danlu.DataError, match=r"has no test part[\s\S]*--data DATA"):
        danlu.evaluate(run)


def test_scores_of_a_perfect_and_of_a_wrong_model() -> None:
    labels = np.array([0, 1, 2, 0])
    perfect = np.eye(3)[labels]
    keys = ("a", "b", "c", "d")
    assert score(Scored(perfect, labels, ("x", "y", "z"), keys)).accuracy == 1
    wrong = score(Scored(np.roll(perfect, 1, axis=1), labels, ("x", "y", "z"), keys))
    assert wrong.accuracy == 0
    assert wrong.most_confused[0] == {"truth": "x", "answer": "y", "count": 2}
    assert {row["key"] for row in wrong.hardest} == {"a", "b", "c", "d"}
