"""The verb `evaluate`: numbers that agree with the manifest, and data that must not have changed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import danlu
from danlu.data.split import read_manifest
from danlu.evaluation.evaluate import Scored, score
from danlu.prediction.answers import Answers
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


def test_model_that_is_no_better_than_one_answer_says_so(tmp_path: Path) -> None:
    settings = {**QUICK, "training.epochs": 1, "training.learning_rate": 1e-9}
    useless = danlu.evaluate(danlu.train(write_pictures(tmp_path / "p"), settings))
    assert any("would be right as often or more (33.33%)" in note for note in useless.notes)


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


def test_every_answer_to_the_test_part_is_a_row_on_disk(trained: danlu.Run) -> None:
    evaluation = danlu.evaluate(trained)
    answers = Answers.read(trained.answers_file("test"))
    assert set(answers.keys) == {row.key for row in read_manifest(trained.manifest_file) if row.part == "test"}
    assert answers.right.mean() == evaluation.accuracy
    assert ((answers.confidence >= answers.probability_of_truth) | answers.right).all()


def test_evaluation_uses_the_calibration_of_the_validation_part(trained: danlu.Run) -> None:
    evaluation = danlu.evaluate(trained)
    saved = trained.calibration()
    assert saved is not None
    assert evaluation.calibration["temperature"] == saved["temperature"]
    assert evaluation.calibration["fitted_on"] == saved["examples"] == 3
    assert evaluation.log_loss == evaluation.calibration["after"]["log_loss"]


def test_over_confident_runs_are_calibrated() -> None:
    """108 digits, learnt by heart in large steps; measured on 844 others that calibrated nothing. Four splits: the
    error of one sample has chance in it."""
    settings = {
        "model.name": "mlp",
        "model.dropout": 0.0,
        "data.split": [0.06, 0.47, 0.47],
        "training.epochs": 40,
        "training.learning_rate": 0.01,
        "training.label_smoothing": 0.0,
        "training.weight_decay": 0.0,
        "training.best_by": "validation_accuracy",
        "training.threads": 1,
    }
    before, after = [], []
    for seed in range(4):
        calibration = danlu.evaluate(danlu.train("digits", {**settings, "data.split_seed": seed})).calibration
        assert calibration["temperature"] > 1.5
        assert calibration["after"]["log_loss"] < 0.8 * calibration["before"]["log_loss"]
        before.append(calibration["before"]["expected_calibration_error"])
        after.append(calibration["after"]["expected_calibration_error"])
    assert sum(before) / 4 > 0.05
    assert all(now < once for now, once in zip(after, before, strict=True))
    assert sum(after) < 0.5 * sum(before)


def test_gallery_shows_the_highest_losses_and_the_surest_errors(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "p", count=40)
    for index in range(20):  # what no model can tell
        name = f"{index:03d}.jpg"
        green = (pictures / "green" / f"{index + 20:03d}.jpg").read_bytes()
        (pictures / "blue" / name).write_bytes(green + b"\0" * index)
    run = danlu.train(pictures, {**QUICK, "data.gate": "off"})
    evaluation = danlu.evaluate(run)
    gallery = run.gallery()
    hardest = [row["key"] for row in gallery if row["why"] == "highest loss"]
    assert hardest == [row["key"] for row in evaluation.hardest[:24]]
    assert len({row["key"] for row in gallery}) == len(gallery)
    assert all(row["picture"].startswith("data:image/png;base64,") for row in gallery)


def test_error_rate_wished_later_is_kept_in_the_run_and_in_its_answers(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "r.csv", count=2000)
    run = danlu.train(path, QUICK)
    assert danlu.evaluate(run).rejection["chosen"] is None
    chosen = danlu.evaluate(run, max_error=0.05).rejection["chosen"]
    assert chosen["max_error"] == 0.05
    assert chosen["error"] <= 0.05
    assert danlu.load(run).calibration.max_error == 0.05
    assert danlu.evaluate(run).rejection["chosen"]["threshold"] == chosen["threshold"]


def test_error_rate_that_cannot_be_promised_answers_unknown_always(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), {**QUICK, "prediction.max_error": 0.01})
    (answer,) = danlu.load(run).predict("很好吃")
    assert (answer.label, answer.is_unknown) == ("unknown", True)
    assert answer.to_json()["unknown"] is True
    assert danlu.evaluate(run).rejection["chosen"]["answered"] == 0


@pytest.mark.parametrize("wrong", [0, 1, -0.5, 2])
def test_error_rate_that_is_no_share_is_refused(trained: danlu.Run, wrong: float) -> None:
    with pytest.raises(danlu.ConfigError, match="`max_error` is a share above 0 and below 1"):
        danlu.evaluate(trained, max_error=wrong)


def test_looks_at_a_test_part_are_counted_over_all_runs(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "p")
    for _ in range(2):
        run = danlu.train(pictures, QUICK)
        danlu.evaluate(run)
    danlu.evaluate(run)
    saved = run.evaluation()
    assert saved is not None
    assert (saved["test_looks"], saved["part_looks"], saved["part_runs"]) == (2, 3, 2)


def test_damaged_answers_are_told_with_the_file(trained: danlu.Run) -> None:
    danlu.evaluate(trained)
    path = trained.answers_file("test")
    path.write_text("key,truth\n", encoding="utf-8")
    with pytest.raises(danlu.ModelError, match=r"the answers `.*-test.csv` cannot be read: its first line is not"):
        Answers.read(path)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=6),
    st.integers(0, 9),
)
def test_answers_survive_the_disk(keys: list[str], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(seed)
        probabilities = rng.dirichlet(np.ones(3), len(keys))
        answers = Answers.of(probabilities, rng.integers(0, 3, len(keys)), ("猫", "a,b", 'c"\r'), keys)
        answers.write(Path(folder) / "a.csv")
        found = Answers.read(Path(folder) / "a.csv")
        assert (found.keys, found.truth, found.answer) == (answers.keys, answers.truth, answers.answer)
        assert (found.confidence == answers.confidence).all()
        assert (found.probability_of_truth == answers.probability_of_truth).all()


def test_examples_the_run_was_trained_on_are_counted_in_other_data(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "r.csv", count=100)
    run = danlu.train(path, QUICK)
    evaluation = danlu.evaluate(run, path)
    assert evaluation.notes[-1].startswith("80 of these 100 examples were in the run's train or validation part")


def test_only_the_test_part_of_other_data_that_states_one_is_scored(trained: danlu.Run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "other" / "train", count=3, seed=8)
    write_pictures(tmp_path / "other" / "test", count=5, seed=9)
    evaluation = danlu.evaluate(trained, tmp_path / "other")
    assert evaluation.examples == 15
    assert evaluation.notes[0].startswith("only the test part of")


def test_other_data_is_read_with_the_columns_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    rows = [f"{'好' if i % 2 else '坏'}得很{i},{'甲' if i % 3 else '乙'}第{i}句,{i % 2}" for i in range(120)]
    path.write_text("summary,text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    run = danlu.train(path, {**QUICK, "data.text_column": "summary", "training.epochs": 8})
    assert danlu.evaluate(run, path).accuracy > 0.9


def test_labels_changed_since_training_are_told(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "r.csv", count=100)
    run = danlu.train(path, QUICK)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], *(f"{1 - int(line[0])}{line[1:]}" for line in lines[1:])]), encoding="utf-8")
    with pytest.raises(danlu.DataError, match=r"20 test examples of .* have other labels than at training"):
        danlu.evaluate(run)


def test_manifest_that_lost_rows_is_told(trained: danlu.Run) -> None:
    lines = trained.manifest_file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if ",test," not in line] + [line for line in lines if ",test," in line][:4]
    trained.manifest_file.write_text("\n".join(kept) + "\n", encoding="utf-8")
    with pytest.raises(danlu.ModelError, match=r"has 4 test examples, the run had 9: it is damaged"):
        danlu.evaluate(trained)


def test_data_that_is_gone_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "r.csv")
    run = danlu.train(path, QUICK)
    path.unlink()
    with pytest.raises(danlu.DataError, match=r"the data of `.*` is gone: `.*r.csv`[\s\S]*--data DATA"):
        danlu.evaluate(run)


@pytest.mark.parametrize("text", ['{"format": 1}', "[1]", "", '{"format": 1, "temperature": "x"}'])
def test_damaged_files_of_a_run_are_told_by_their_name(trained: danlu.Run, text: str) -> None:
    danlu.evaluate(trained)
    trained.calibration_file.write_text(text, encoding="utf-8")
    with pytest.raises(danlu.ModelError, match="calibration"):
        danlu.load(trained)
    trained.evaluation_file.write_text(text, encoding="utf-8")
    with pytest.raises(danlu.ModelError, match=r"evaluation.json[\s\S]*danlu evaluate .* writes it anew"):
        danlu.report(trained)


def test_results_that_were_changed_by_hand_are_refused(trained: danlu.Run) -> None:
    danlu.evaluate(trained)
    for path in (trained.evaluation_file, trained.calibration_file, trained.gate_file, trained.gallery_file):
        whole = path.read_text(encoding="utf-8")
        values = json.loads(whole)
        values["format"] = 0
        path.write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(danlu.ModelError, match=f"{path.name}` is not as danlu wrote it"):
            danlu.report(trained) if path != trained.calibration_file else danlu.load(trained)
        path.write_text(whole, encoding="utf-8")
    danlu.report(trained)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a,1,1,0.5", "does not have 5 columns"),
        ("a,1,1,x,0.5", "could not convert"),
        ("a,1,1,9,0.5", "not from 0 to 1"),
        ("a,1,1,nan,0.5", "not from 0 to 1"),
    ],
)
def test_damaged_rows_of_answers_are_told(trained: danlu.Run, row: str, told: str) -> None:
    danlu.evaluate(trained)
    path = trained.answers_file("test")
    path.write_text("key,truth,answer,confidence,probability_of_truth\n" + row + "\n", encoding="utf-8")
    with pytest.raises(danlu.ModelError, match=f"{told}[\\s\\S]*writes them anew"):
        Answers.read(path)


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan")])
def test_temperature_that_is_none_is_refused(trained: danlu.Run, temperature: float) -> None:
    values = {"format": 1, "temperature": temperature, "examples": 3, "threshold": None, "max_error": None}
    trained.calibration_file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(danlu.ModelError, match="the saved calibration is damaged"):
        danlu.load(trained)


def test_what_was_said_of_earlier_weights_is_gone_after_a_resume(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), QUICK)
    danlu.evaluate(run)
    danlu.report(run)
    run.update(state="interrupted")
    danlu.resume(run)
    assert run.evaluation() is None
    assert run.status()["test"] is None
    assert not run.report_file.exists()
    assert not run.answers_file("test").exists()


def test_looks_at_mostly_the_same_examples_count_too(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "r.csv", count=200)
    for _ in range(3):
        danlu.evaluate(danlu.train(path, QUICK))
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(f"{i % 2},新的一句话，味道{'好' if i % 2 else '差'}{i}回\n" for i in range(10))
    run = danlu.train(path, QUICK)
    danlu.evaluate(run)
    saved = run.evaluation()
    assert saved is not None
    assert (saved["part_looks"], saved["part_runs"]) == (4, 4)


def test_class_without_a_test_example_is_told_and_has_no_figures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p" / "train", count=20)
    write_pictures(tmp_path / "p" / "test", count=10, seed=1)
    for path in (tmp_path / "p" / "test" / "blue").iterdir():
        path.unlink()
    evaluation = danlu.evaluate(danlu.train(tmp_path / "p", QUICK))
    assert "1 class has no test example: `blue`" in evaluation.notes
    assert evaluation.per_class["blue"]["recall_interval"] is None


def test_thresholds_for_usual_error_rates_are_tried_on_the_test_part(tmp_path: Path) -> None:
    evaluation = danlu.evaluate(danlu.train(write_reviews(tmp_path / "r.csv", count=1500), QUICK))
    rows = evaluation.rejection["thresholds"]
    assert [row["max_error"] for row in rows] == [0.01, 0.02, 0.05, 0.1]
    assert any(row["answered"] for row in rows)


def test_class_called_unknown_and_a_wished_error_rate_do_not_go_together(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    rows = [f"{'好' if i % 2 else '坏'}得很{i},{'unknown' if i % 2 else 'good'}" for i in range(120)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    run = danlu.train(path, QUICK)
    with pytest.raises(danlu.ConfigError, match="a class is called `unknown`"):
        danlu.evaluate(run, max_error=0.05)
