"""The verb `compare`: same test examples, paired, with a verdict that says no more than it knows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import danlu
from danlu.base.runs import Run
from danlu.data.split import read_manifest
from danlu.evaluation.compare import compare
from danlu.prediction.answers import Answers
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 2, "training.threads": 1}


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two evaluated runs on the same 300 reviews."""
    path = write_reviews(tmp_path / "r.csv", count=300)
    found = [danlu.train(path, {**QUICK, "training.seed": seed}, name=f"第{seed}次") for seed in (1, 2)]
    for run in found:
        danlu.evaluate(run)
    return found


def answer_anew(run: Run, right: np.ndarray) -> None:
    """Make a run have answered so."""
    answers = Answers.read(run.answers_file("test"))
    said = tuple(truth if is_right else "?" for truth, is_right in zip(answers.truth, right, strict=True))
    changed = Answers(answers.keys, answers.truth, said, answers.confidence, answers.probability_of_truth)
    changed.write(run.answers_file("test"))


def test_runs_that_answer_alike_show_no_difference(runs: list[Run]) -> None:
    right = np.arange(60) % 4 > 0
    answer_anew(runs[0], right)
    answer_anew(runs[1], np.roll(right, 1))
    (pair,) = compare(runs).pairs
    assert pair.better is None
    assert pair.sentence().startswith("no difference shown between 第1次 and 第2次 (difference +0.00 points,")


def test_better_run_is_named(runs: list[Run]) -> None:
    answer_anew(runs[0], np.arange(60) % 2 > 0)
    answer_anew(runs[1], np.ones(60, bool))
    (pair,) = compare(runs).pairs
    assert pair.better == "第2次"
    assert pair.sentence().startswith("第2次 is better than 第1次 (difference -50.00 points, 95 % interval -6")


def test_three_runs_are_compared_in_pairs_with_adjusted_values(runs: list[Run]) -> None:
    third = danlu.train(runs[0].status()["data"], QUICK, name="third")
    danlu.evaluate(third)
    answer_anew(runs[0], np.ones(60, bool))
    answer_anew(runs[1], np.arange(60) % 10 > 0)
    answer_anew(third, np.arange(60) % 6 > 0)
    pairs = compare([*runs, third]).pairs
    assert [(pair.first, pair.second) for pair in pairs] == [("第1次", "第2次"), ("第1次", "third"), ("第2次", "third")]
    assert all(pair.p_value >= pair.difference.p_value for pair in pairs)
    assert [pair.better for pair in pairs] == [None, "第1次", None]
    assert pairs[0].difference.p_value < 0.05 < pairs[0].p_value


def test_accuracies_are_those_of_the_evaluations(runs: list[Run]) -> None:
    found = compare(runs)
    assert found.examples == 60
    assert [run.accuracy for run in found.runs] == [run.status()["test"]["accuracy"] for run in runs]
    assert found.page.read_text(encoding="utf-8").count("第1次") >= 3


def test_runs_on_grown_data_are_compared_on_what_they_share(runs: list[Run]) -> None:
    path = Path(runs[0].status()["data"])
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(f"{i % 2},又来了一次，味道{'好' if i % 2 else '差'}{i}回\n" for i in range(100))
    later = danlu.train(path, QUICK, name="later")
    danlu.evaluate(later)
    found = compare([runs[0], later])
    assert found.examples == 60
    assert found.notes == ("later has 80 test examples, of which all the runs share 60",)


def test_runs_without_a_common_example_are_refused(runs: list[Run], tmp_path: Path) -> None:
    other = danlu.train(write_pictures(tmp_path / "p"), QUICK)
    danlu.evaluate(other)
    with pytest.raises(danlu.ConfigError, match="these runs share no test example"):
        compare([runs[0], other])


def test_equal_keys_of_other_content_are_not_the_same_example(runs: list[Run], tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text((tmp_path / "r.csv").read_text(encoding="utf-8").replace("号", "回"), encoding="utf-8")
    other = danlu.train(path, QUICK, name="other")
    danlu.evaluate(other)
    keys = {row.key for row in read_manifest(other.manifest_file)}
    assert keys & {row.key for row in read_manifest(runs[0].manifest_file)}
    with pytest.raises(danlu.ConfigError, match="share no test example"):
        compare([runs[0], other])


def test_run_that_is_not_evaluated_is_named_with_the_command(runs: list[Run]) -> None:
    fresh = danlu.train(runs[0].status()["data"], QUICK, name="fresh")
    with pytest.raises(danlu.ConfigError, match=r"`.*fresh` is not evaluated[\s\S]*danlu evaluate .*fresh"):
        compare([runs[0], fresh])


@pytest.mark.parametrize("number", [1, 2])
def test_one_run_alone_or_twice_is_refused(runs: list[Run], number: int) -> None:
    with pytest.raises(danlu.ConfigError, match="a comparison needs two different runs"):
        compare(runs[:1] * number)


def test_labels_changed_between_runs_are_told(runs: list[Run]) -> None:
    path = Path(runs[0].status()["data"])
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], *(f"{1 - int(line[0])}{line[1:]}" for line in lines[1:])]), encoding="utf-8")
    other = danlu.train(path, QUICK, name="mended")
    danlu.evaluate(other)
    with pytest.raises(danlu.ConfigError, match="60 of the 60 shared test examples have other labels"):
        compare([runs[0], other])


def test_runs_of_one_name_in_two_places_are_refused(runs: list[Run], tmp_path: Path) -> None:
    shutil.copytree(runs[0].folder, tmp_path / "other" / runs[0].name)
    with pytest.raises(danlu.ConfigError, match="two of these runs have the same name"):
        compare([runs[0], tmp_path / "other" / runs[0].name])


def test_run_named_twice_is_compared_once(runs: list[Run]) -> None:
    assert len(compare([runs[0], runs[1], runs[0]]).runs) == 2


def test_answers_that_lost_rows_are_told(runs: list[Run]) -> None:
    path = runs[0].answers_file("test")
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:30]), encoding="utf-8")
    with pytest.raises(danlu.ModelError, match=r"does not hold the 60 answers[\s\S]*danlu evaluate"):
        compare(runs)
