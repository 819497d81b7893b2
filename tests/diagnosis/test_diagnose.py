"""`danlu diagnose`: what a user sees, what is written into the run, and cures that are tried."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import danlu
from danlu.base.errors import ConfigError, ModelError
from danlu.base.runs import Run
from danlu.diagnosis.cure import Cured, cure
from danlu.diagnosis.diagnose import diagnose
from danlu.diagnosis.found import command_of
from danlu.diseases import DISEASES
from danlu.diseases.diagnosis import Cure
from pictures import write_pictures

QUICK = {"model.name": "mlp", "training.threads": 1, "training.epochs": 6}
Told = tuple[int, str, str]


@pytest.fixture
def slow_run() -> Run:
    """A rate so low that nothing is learnt."""
    return danlu.train("digits", {**QUICK, "training.learning_rate": 1e-7}, name="慢")


@pytest.fixture
def good_run() -> Run:
    return danlu.train("digits", {**QUICK, "training.epochs": 15}, name="good")


def test_finding_is_told_with_evidence_and_the_line_that_cures(cli: Callable[..., Told], slow_run: Run) -> None:
    code, out, _ = cli("diagnose", slow_run)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("high    rate_too_low: the learning rate of 1e-07 is too low")
    assert "        learning rate: 1e-07" in lines
    assert f"$ danlu train digits --config {slow_run}/config.yaml training.learning_rate=auto" in out
    assert lines[-1] == str(slow_run.diagnosis_file)


def test_at_most_three_findings_are_told_unless_all_are_asked_for(cli: Callable[..., Told], slow_run: Run) -> None:
    _, out, _ = cli("diagnose", slow_run)
    _, everything, _ = cli("diagnose", slow_run, "--all")
    told, count = sum("  cure:" in line for line in out.splitlines()), len(diagnose(slow_run).found)
    assert (told, count > 3) == (3, True)
    assert sum("  cure:" in line for line in everything.splitlines()) == count
    assert f"and {count - 3} more" in out


def test_healthy_run_gets_no_finding(cli: Callable[..., Told], good_run: Run) -> None:
    code, out, _ = cli("diagnose", good_run)
    assert code == 0
    assert out.startswith(f"nothing found; looked for {len(DISEASES.names())} diseases")


def test_layers_are_a_table(cli: Callable[..., Told], good_run: Run) -> None:
    _, out, _ = cli("diagnose", good_run, "--layers")
    header, *rows = [line.split() for line in out.splitlines() if "(Linear)" in line or line.startswith("layer")]
    assert header[:2] == ["layer", "parameters"]
    assert [row[2] for row in rows] == ["16,640", "32,896", "1,290"]


def test_json_has_everything(cli: Callable[..., Told], slow_run: Run) -> None:
    _, out, _ = cli("diagnose", slow_run, "--json")
    told = json.loads(out)
    assert told["findings"][0]["disease"] == "rate_too_low"
    assert set(told["findings"][0]) >= {"sentence", "evidence", "confidence", "level", "cure", "command", "chart"}
    assert [layer["kind"] for layer in told["layers"]] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert told["looked_for"] == DISEASES.names()


def test_findings_enter_record_and_report(slow_run: Run) -> None:
    diagnose(slow_run)
    assert "diagnosis, high, rate_too_low: the learning rate" in slow_run.record_file.read_text(encoding="utf-8")
    page = danlu.report(slow_run).read_text(encoding="utf-8")
    assert "rate too low (high confidence)" in page
    assert "training.learning_rate=auto" in page


def test_training_ends_with_its_diagnosis(cli: Callable[..., Told], tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "photos")
    code, _, err = cli(
        "train", data, "training.threads=1", "training.epochs=2", "training.learning_rate=1e-9", "--no-bundle"
    )
    assert code == 0
    assert "diagnosis, high confidence, rate_too_low" in err
    assert "`danlu diagnose runs/" in err
    assert Run(Path("runs/latest")).findings() is not None


def test_training_that_fails_says_why_before_the_error(cli: Callable[..., Told]) -> None:
    words = [f"{key}={value}" for key, value in QUICK.items()]
    code, _, err = cli("train", "digits", *words, "training.learning_rate=1e20", "training.optimizer=sgd")
    assert code == 4
    assert "diagnosis, high confidence, rate_too_high" in err
    assert err.index("diagnosis,") < err.index("the training loss became")


def test_run_of_an_earlier_danlu_is_diagnosed_by_what_it_has(good_run: Run) -> None:
    for path in (good_run.watched_file, good_run.first_step_file, good_run.answers_file("validation")):
        path.unlink()
    findings = diagnose(good_run)
    assert findings.found == ()
    assert findings.layers == ()
    assert "No step was looked at" in good_run.diagnosis_file.read_text(encoding="utf-8")


def test_run_that_never_began_has_nothing_to_diagnose_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run `nowhere`"):
        diagnose("nowhere")


def test_damaged_answers_are_an_error_with_a_hint(good_run: Run) -> None:
    good_run.answers_file("validation").write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        diagnose(good_run)


def test_new_training_in_a_run_forgets_its_findings(good_run: Run) -> None:
    diagnose(good_run)
    good_run.forget_evaluation()
    assert good_run.findings() is None
    assert not good_run.diagnosis_file.exists()


def test_own_module_gets_advice_instead_of_a_command() -> None:
    pairs = [(torch.randn(32, 6, generator=torch.Generator().manual_seed(i)), torch.arange(32) % 3) for i in range(8)]
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(1))
    run = danlu.train_own(danlu.Trainer(net, pairs, pairs, settings={"epochs": 2}), "mine")
    found = diagnose(run).found[0]
    assert found.diagnosis.disease == "softmax_before_loss"
    assert found.command is None
    with pytest.raises(ConfigError, match="no setting cures `softmax_before_loss`") as caught:
        cure(run)
    assert "raw scores" in str(caught.value.hint)


def test_cure_that_helps_is_told_and_kept(cli: Callable[..., Told], slow_run: Run) -> None:
    code, out, err = cli("diagnose", slow_run, "--cure")
    assert code == 0
    first, folder = out.splitlines()
    assert first.startswith("rate_too_low: validation accuracy ")
    assert first.endswith("it helped")
    assert "trying: danlu train digits --config" in err
    assert Run(Path(folder)).status()["state"] == "finished"
    tried = (slow_run.findings() or {})["tried"]
    assert tried[0]["helped"] is True
    assert "tried against rate_too_low" in slow_run.record_file.read_text(encoding="utf-8")
    assert "Tried: validation accuracy" in slow_run.diagnosis_file.read_text(encoding="utf-8")
    diagnose(slow_run)
    assert (slow_run.findings() or {})["tried"] == tried


def test_cure_keeps_every_other_setting_and_the_split(slow_run: Run) -> None:
    cured = cure(slow_run)
    assert cured.run is not None
    new = Run(Path(cured.run))
    before, after = (run.config_file.read_text(encoding="utf-8").splitlines() for run in (slow_run, new))
    changed = [one for one, two in zip(before, after, strict=True) if one.split("  #")[0] != two.split("  #")[0]]
    assert [line.strip().split(":")[0] for line in changed] == ["learning_rate"]
    assert new.manifest_file.read_text(encoding="utf-8") == slow_run.manifest_file.read_text(encoding="utf-8")


def test_cure_of_a_healthy_run_is_refused(good_run: Run) -> None:
    with pytest.raises(ConfigError, match="nothing to cure"):
        cure(good_run)


def test_cure_of_what_was_not_found_names_what_was(slow_run: Run) -> None:
    with pytest.raises(ConfigError, match="`overfitting` was not found") as caught:
        cure(slow_run, "overfitting")
    assert "rate_too_low" in str(caught.value.hint)


def test_cure_that_fails_is_told(slow_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Run:
        raise ModelError("the training loss became NaN")

    monkeypatch.setattr("danlu.diagnosis.cure.train", fail)
    cured = cure(slow_run)
    assert (cured.helped, cured.run) == (False, None)
    assert cured.told == "the training failed: the training loss became NaN"


@pytest.mark.parametrize(
    ("before", "after", "helped"), [(0.5, 0.9, True), (0.9, 0.9, False), (0.9, 0.5, False), (None, 0.5, True)]
)
def test_cure_helps_when_the_score_rises(before: float | None, after: float, helped: bool) -> None:
    cured = Cured("plateau", "", "validation accuracy", before, after, False, "runs/a")
    assert cured.helped is helped
    assert ("it helped" in cured.told) is helped


def test_words_of_a_command_can_be_pasted() -> None:
    settings = {"data.split": [0.6, 0.2, 0.2], "model.batch_norm": True}
    told = command_of(
        Cure("", settings), "my 照片", ["model.name=mlp", "model.batch_norm=false"], "runs/慢/config.yaml"
    )
    assert told is not None
    assert shlex.split(told) == [
        "danlu",
        "train",
        "my 照片",
        "--config",
        "runs/慢/config.yaml",
        "model.name=mlp",
        "data.split=[0.6,0.2,0.2]",
        "model.batch_norm=true",
    ]
    assert "runs/慢/config.yaml" in told.split()
    assert command_of(Cure("", command="inspect DATA --labels"), "my 照片") == "danlu inspect 'my 照片' --labels"
    assert command_of(Cure("", command="probe DATA"), "照片", config="a.yaml") == "danlu probe 照片 --config a.yaml"
    assert command_of(Cure(""), "照片") is None


def test_rows_after_a_failure_are_no_numbers_and_can_be_read(good_run: Run) -> None:
    good_run.add_steps([{"step": 10**6, "epoch": 9, "loss": None, "learning_rate": 0.1}])
    found = [one.diagnosis for one in diagnose(good_run).found if one.diagnosis.disease == "exploding_loss"]
    assert found[0].chart is not None
    assert all(math.isfinite(y) for _, y in found[0].chart.lines["loss"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("watched.jsonl", ""),
        ("watched.jsonl", "5\n[]\nnull\n"),
        ("first_step.json", '{"format": 1}'),
        ("first_step.json", '{"format": 1, "inputs": null, "scores": "x", "parameters": 4, "resting": []}'),
        (
            "first_step.json",
            '{"format": 1, "inputs": {"kind": "numbers", "examples": 64, "bad_examples": 0, "std": NaN},'
            ' "scores": {"loss": Infinity, "shape": [64, 10]}, "parameters": {"total": 5}, "resting": {"count": 1}}',
        ),
        ("steps.jsonl", '{"step": 0, "epoch": 0, "loss": NaN, "learning_rate": 0.1}\n'),
        ("steps.jsonl", '{"step": 0, "epoch": 0, "loss": Infinity, "learning_rate": 0.1}\n7\n'),
        ("history.jsonl", ""),
        ("findings.json", "\x00"),
    ],
)
def test_what_another_version_or_a_crash_left_is_diagnosed_by_the_rest(good_run: Run, name: str, content: str) -> None:
    (good_run.folder / name).write_text(content, encoding="utf-8")
    assert (diagnose(good_run).run.findings() or {})["format"] == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("watched.jsonl", '{"layers": 3}\n', "line 1 has nothing as 'step'"),
        (
            "watched.jsonl",
            '{"step": 0, "epoch": 0, "loss": 1, "learning_rate": 1, "gradient_norm": 1, "layers": [5]}\n',
            "line 1 has no layers",
        ),
        ("steps.jsonl", '{"step": 0, "loss": "abc", "learning_rate": 1}\n', "line 1 has 'abc' as 'loss'"),
        ("history.jsonl", '{"epoch": 0, "train_loss": 1.0}\n', "line 1 has nothing as 'train_accuracy'"),
        ("model.json", '{"format": 1}', "it has no 'name'"),
    ],
)
def test_files_of_another_shape_are_an_error_that_names_file_and_line(
    good_run: Run, name: str, content: str, told: str
) -> None:
    (good_run.folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=told) as caught:
        diagnose(good_run)
    assert name in caught.value.message


def test_run_without_a_step_is_not_called_well(cli: Callable[..., Told], good_run: Run) -> None:
    for path in (good_run.steps_file, good_run.history_file, good_run.watched_file, good_run.first_step_file):
        path.unlink()
    good_run.answers_file("validation").unlink()
    _, out, _ = cli("diagnose", good_run)
    assert out.startswith("no step of this training was kept")


def test_interrupted_training_is_told_how_to_go_on(slow_run: Run) -> None:
    slow_run.update(state="interrupted")
    told = {found.diagnosis.disease: found.command for found in diagnose(slow_run).found}
    assert told["underfitting"] == f"danlu train --resume {slow_run}"
