"""Run folders of modules and loaders of the user's own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import danlu
from danlu.base.config import read_config
from danlu.base.errors import ConfigError, DanluError, DataError, ModelError
from danlu.base.runs import Run, create_run, find_run
from danlu.cli.runs import command as runs_command
from danlu.prediction.answers import Answers
from danlu.training.checkpoints import load_checkpoint
from danlu.training.train import resume

EXAMPLES = 96


def examples(seed: int = 0) -> tuple[Tensor, Tensor]:
    labels = torch.arange(EXAMPLES) % 3
    return torch.randn(EXAMPLES, 6, generator=torch.Generator().manual_seed(seed)) + labels[:, None], labels


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))


def trainer(train: Any = None, **more: Any) -> danlu.Trainer:
    settings = {"epochs": 4, "learning_rate": 0.01, **more.pop("settings", {})}
    validation = DataLoader(TensorDataset(*examples(1)), batch_size=20)
    train = train or DataLoader(TensorDataset(*examples()), batch_size=16, shuffle=True)
    return danlu.Trainer(more.pop("model", None) or net(), train, validation, settings=settings, **more)


class Breaking:
    """Batches of which the one at a place cannot be read until it is mended."""

    def __init__(self, place: int, error: BaseException) -> None:
        self.place, self.error, self.is_mended, self.given = place, error, False, 0
        inputs, labels = examples()
        self.pairs = list(zip(inputs.split(16), labels.split(16), strict=True))

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for pair in self.pairs:
            self.given += 1
            if self.given == self.place and not self.is_mended:
                raise self.error
            yield pair


def test_run_of_an_own_module_has_its_files() -> None:
    run = danlu.train_own(trainer())
    assert sorted(path.name for path in run.folder.iterdir()) == [
        ".lock",
        "answers-validation.csv",
        "calibration.json",
        "checkpoints",
        "config.yaml",
        "first_step.json",
        "history.jsonl",
        "record.md",
        "run.json",
        "steps.jsonl",
        "watched.jsonl",
    ]
    assert find_run("runs/latest").name == run.name
    assert run.name.endswith("-own-Sequential")


def test_status_of_an_own_run_tells_what_is_known() -> None:
    status = danlu.train_own(trainer(), data="two moons").status()
    assert (status["state"], status["kind"], status["model"]) == ("finished", "own", "Sequential")
    assert status["data"] == "two moons"
    assert status["parts"] == {"train": EXAMPLES, "validation": EXAMPLES}
    assert status["batches"] == {"train": 6, "validation": 5}
    assert status["epochs_done"] == 4
    assert {"started", "seconds", "best", "environment"} <= set(status)


def test_history_and_steps_of_an_own_run_are_those_of_the_loop() -> None:
    run = danlu.train_own(trainer())
    outcome = trainer().fit()
    untimed = [{k: v for k, v in row.items() if "second" not in k} for row in run.history()]
    assert untimed == [{k: v for k, v in row.to_json().items() if "second" not in k} for row in outcome.history]
    assert [row["step"] for row in run.steps()] == list(range(24))


def test_examples_that_cannot_be_counted_are_left_out() -> None:
    status = danlu.train_own(trainer(Breaking(0, ValueError()))).status()
    assert status["parts"] == {"validation": EXAMPLES}


def test_settings_of_the_trainer_are_in_the_configuration() -> None:
    run = danlu.train_own(trainer(settings={"weight_decay": 0.3, "clip_norm": 2.0}))
    training = read_config(run.config_file).settings.training
    assert (training.epochs, training.weight_decay, training.clip_norm) == (4, 0.3, 2.0)
    assert training.device == "cpu"
    assert run.config_file.read_text(encoding="utf-8").startswith("training:\n")


def test_batch_size_is_that_of_the_loader_or_not_told() -> None:
    known = danlu.train_own(trainer(settings={"batch_size": 5}))
    unknown = danlu.train_own(trainer(Breaking(0, ValueError())))
    assert read_config(known.config_file).settings.training.batch_size == 16
    assert read_config(unknown.config_file).settings.training.batch_size == "auto"


def test_own_optimizer_and_loss_are_told_as_they_are() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    run = danlu.train_own(trainer(model=model, optimizer=optimizer, loss=nn.CrossEntropyLoss()))
    training = read_config(run.config_file).settings.training
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 0.05, 0.5)
    assert training.loss == "CrossEntropyLoss"
    assert "learning_rate: 0.05  # own optimizer" in run.config_file.read_text(encoding="utf-8")


def test_answers_are_those_of_the_best_weights_in_the_order_of_the_batches() -> None:
    own = trainer()
    run = danlu.train_own(own, classes=["猫", "dog", "cow"])
    answers = Answers.read(run.answers_file("validation"))
    with torch.inference_mode():
        said = own.model.eval()(examples(1)[0]).argmax(1).tolist()
    assert list(answers.keys) == [str(place) for place in range(EXAMPLES)]
    assert list(answers.truth[:3]) == ["猫", "dog", "cow"]
    assert list(answers.answer) == [("猫", "dog", "cow")[place] for place in said]
    assert answers.right.mean() == run.status()["best"]["validation_accuracy"]


def test_classes_without_names_are_numbers() -> None:
    answers = Answers.read(danlu.train_own(trainer()).answers_file("validation"))
    assert set(answers.truth) == {"0", "1", "2"}


def test_names_that_do_not_fit_are_told_and_the_run_can_be_ended_with_right_ones() -> None:
    with pytest.raises(ConfigError, match=r"`classes` names 2 different classes, the module has scores of 3"):
        danlu.train_own(trainer(), "a", classes=["x", "y"])
    run = danlu.train_own(trainer(), "a", classes=["x", "y", "z"])
    assert run.status()["state"] == "finished"
    assert set(Answers.read(run.answers_file("validation")).truth) == {"x", "y", "z"}


def test_regression_has_a_run_without_answers() -> None:
    inputs = torch.linspace(-1, 1, 32)[:, None]
    pairs = [(inputs, 2 * inputs + 1)]
    run = danlu.train_own(danlu.Trainer(nn.Linear(1, 1), pairs, pairs, nn.MSELoss(), settings={"epochs": 5}))
    assert not run.answers_file("validation").exists()
    assert "validation loss was lowest in epoch 5 of 5" in run.record_file.read_text(encoding="utf-8")


def test_failed_own_run_goes_on_with_the_same_name_to_the_same_bits() -> None:
    source = Breaking(15, ValueError("torn file"))
    with pytest.raises(DataError, match="torn file"):
        danlu.train_own(trainer(source, settings={"epochs": 4}), "a")
    run = Run(Path("runs/a"))
    assert run.status()["state"] == "failed"
    assert "torn file" in run.record_file.read_text(encoding="utf-8")
    source.is_mended = True
    danlu.train_own(trainer(source), "a")
    whole = danlu.train_own(trainer(source), "b")
    one, two = (load_checkpoint(each.checkpoints_folder, "best").tensors for each in (run, whole))
    assert run.status()["state"] == "finished"
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert [row["step"] for row in run.steps()] == [row["step"] for row in whole.steps()]


def test_interrupted_own_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        danlu.train_own(trainer(Breaking(15, KeyboardInterrupt())), "a")
    assert Run(Path("runs/a")).status()["state"] == "interrupted"
    assert "go on with `danlu.train_own(trainer, 'a')` in your program" in capsys.readouterr().err
    assert "`danlu.train_own(trainer, 'a')`" in Path("runs/a/record.md").read_text(encoding="utf-8")


def test_name_of_a_finished_own_run_is_taken() -> None:
    danlu.train_own(trainer(), "a")
    with pytest.raises(ConfigError, match=r"exists already \(state: finished\)"):
        danlu.train_own(trainer(), "a")


def test_other_settings_are_refused_when_an_own_run_goes_on() -> None:
    source = Breaking(15, ValueError())
    with pytest.raises(DataError):
        danlu.train_own(trainer(source), "a")
    source.is_mended = True
    with pytest.raises(ConfigError, match=r"training\.learning_rate"):
        danlu.train_own(trainer(source, settings={"learning_rate": 0.5}), "a")
    danlu.train_own(trainer(source, settings={"learning_rate": 0.5}), "a", inexact=True)
    assert Run(Path("runs/a")).status()["state"] == "finished"


def test_loss_that_is_no_number_fails_the_run_and_names_the_batch_it_came_from() -> None:
    inputs, labels = examples()
    inputs[50, 2] = float("nan")
    with pytest.raises(DataError, match="batch 4 of epoch 1 holds NaN or infinite numbers in 1 of its 16 examples"):
        danlu.train_own(trainer(DataLoader(TensorDataset(inputs, labels), batch_size=16)), "a")
    assert Run(Path("runs/a")).status()["failure"]["type"] == "BadInputs"


def test_validation_scores_that_are_no_numbers_are_named() -> None:
    inputs, labels = examples()
    inputs[50, 2] = float("nan")
    own = danlu.Trainer(net(), [examples()], [(inputs, labels)], settings={"epochs": 1})
    with pytest.raises(ModelError, match=r"scores of 1 of 96 validation examples hold NaN or infinity, first: `50`"):
        danlu.train_own(own)


def test_resume_by_the_verb_names_the_way() -> None:
    with pytest.raises(DataError):
        danlu.train_own(trainer(Breaking(15, ValueError())), "a")
    with pytest.raises(ConfigError, match=r"module of your own[\s\S]*danlu\.train_own\(trainer, 'a'\)"):
        resume("a")
    with pytest.raises(ConfigError, match=r"exists already[\s\S]*danlu\.train_own\(trainer, 'a'\)"):
        create_run("a", "digits")


@pytest.mark.parametrize("verb", [danlu.evaluate, danlu.load, danlu.export, danlu.explain])
def test_verbs_that_need_the_model_say_that_it_is_the_users_own(verb: Any) -> None:
    run = danlu.train_own(trainer())
    with pytest.raises(DanluError, match="module of your own, which danlu cannot build"):
        verb(run, *(["x"] if verb is danlu.explain else []))


def test_runs_lists_own_runs_with_and_without_accuracy() -> None:
    danlu.train_own(trainer(), "a")
    pairs = [(torch.zeros(4, 1), torch.ones(4, 1))]
    danlu.train_own(danlu.Trainer(nn.Linear(1, 1), pairs, pairs, nn.MSELoss(), settings={"epochs": 2}), "b")
    lines = CliRunner().invoke(runs_command, [], catch_exceptions=False).stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["a", "finished", "Sequential"], ["b", "finished", "Linear"]]
    assert "%" in lines[1]
    assert "%" not in lines[2]


@pytest.mark.parametrize("is_classifier", [True, False])
def test_report_of_an_own_run_has_its_curves_and_no_command_that_cannot_run(is_classifier: bool) -> None:
    pairs = [(torch.zeros(4, 1), torch.ones(4, 1))]
    regression = danlu.Trainer(nn.Linear(1, 1), pairs, pairs, nn.MSELoss(), settings={"epochs": 2})
    run = danlu.train_own(trainer() if is_classifier else regression)
    page = danlu.report(run).read_text(encoding="utf-8")
    assert "Loss by epoch" in page
    assert ("Accuracy by epoch" in page) == is_classifier
    assert "danlu evaluate" not in page
    assert "danlu inspect" not in page


def test_train_own_is_refused_where_several_processes_train(monkeypatch: pytest.MonkeyPatch) -> None:
    own = trainer()
    monkeypatch.setattr(own.processes, "count", 2)
    with pytest.raises(ConfigError, match="written by one process, here are 2"):
        danlu.train_own(own)


def test_answers_of_a_killed_own_run_come_after_it_goes_on(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, torch, danlu\n"
        "class Pairs(list):\n"
        "    given = 0\n"
        "    def __iter__(self):\n"
        "        for pair in list.__iter__(self):\n"
        "            Pairs.given += 1\n"
        "            if Pairs.given == 9 and sys.argv[1] == 'die':\n"
        "                os._exit(9)\n"
        "            yield pair\n"
        "torch.manual_seed(0)\n"
        "pairs = Pairs((torch.randn(8, 3), torch.arange(8) % 2) for _ in range(3))\n"
        "model = torch.nn.Linear(3, 2)\n"
        "danlu.train_own(danlu.Trainer(model, pairs, pairs[:1], settings={'epochs': 5}), 'mine')\n",
        encoding="utf-8",
    )
    died = subprocess.run([sys.executable, str(program), "die"], capture_output=True, check=False)
    run = Run(Path("runs/mine"))
    assert died.returncode == 9
    assert run.state() == "crashed"
    subprocess.run([sys.executable, str(program), "live"], capture_output=True, check=True)
    assert json.loads(run.status_file.read_text(encoding="utf-8"))["state"] == "finished"
    with open(run.answers_file("validation"), encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 9
