"""What is chosen by measuring, and that nothing that is tried can end the process that asks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from danlu.base.config import read_config
from danlu.base.errors import MachineError
from danlu.models.build import build_model
from danlu.models.shapes import ImageShape
from danlu.training import choose_way as module
from danlu.training.choose_way import Measured, Model, choose_by_measuring, run_child, survival
from danlu.training.measure import Way, example_batch, time_ways

CPU = torch.device("cpu")
SHAPE = ImageShape(1, 8, 8)
DESCRIPTION = {
    "name": "simple_cnn",
    "kind": "images",
    "classes": ["a", "b", "c"],
    "example_shape": list(SHAPE),
    "options": {"hidden_size": 16},
}


@pytest.fixture
def network() -> nn.Module:
    return build_model("simple_cnn", SHAPE, 3, {"hidden_size": 16})


def measured(processes: int = 1) -> Model:
    return Model(DESCRIPTION, example_batch(SHAPE, "images", 16, 3), processes)


def child_that(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str, only: str = "") -> None:
    """Make every child process (or those whose command line names `only`) run `code` before anything else."""
    (folder / "sitecustomize.py").write_text(
        f"import os, sys, time\nif {only!r} in ' '.join(sys.orig_argv) and '-m' in sys.orig_argv:\n    {code}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


DEATHS = {
    "os.kill(os.getpid(), 4)": "ends the process here (illegal instruction, SIGILL), tried in a child process",
    "os.kill(os.getpid(), 11)": "ends the process here (segmentation fault, SIGSEGV), tried in a child process",
    "os.kill(os.getpid(), 9)": "ends the process here (SIGKILL), tried in a child process",
    "time.sleep(30)": "takes longer than 2 s to try",
    "os._exit(3)": "does not work here (no answer)",
}


@pytest.mark.parametrize("death", DEATHS)
def test_child_that_dies_or_hangs_is_told_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    child_that(monkeypatch, tmp_path, death)
    assert run_child("danlu.training.survival", {"precision": "bf16", "device": "cpu"}, 2.0)["failure"] == DEATHS[death]


def test_precision_that_ends_the_process_is_found_out_once_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_that(monkeypatch, tmp_path, "os.kill(os.getpid(), 4)")
    told = survival("bf16", CPU)
    assert "illegal instruction" in told
    monkeypatch.setattr(module, "run_child", lambda *_: pytest.fail("tried again"))
    assert survival("bf16", CPU) == told


def test_fp32_works_in_the_child_on_every_machine() -> None:
    assert run_child("danlu.training.survival", {"precision": "fp32", "device": "cpu"}, 60.0).get("failure") is None


def test_asking_for_a_precision_that_does_not_work_is_an_error(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "survival", lambda name, device: "ends the process here (illegal instruction, SIGILL)")
    config = read_config(settings={"training.precision": "bf16"})
    with pytest.raises(MachineError, match=r"`training\.precision=bf16` ends the process here \(illegal"):
        choose_by_measuring(config, network, measured(), 100)


def test_command_says_what_the_probe_chose_where_bf16_ends_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_that(monkeypatch, tmp_path, "os.kill(os.getpid(), 4)", only="danlu.training.")
    done = subprocess.run([sys.executable, "-m", "danlu", "check"], capture_output=True, text=True, check=True)
    assert "bf16 ends the process here (illegal instruction, SIGILL), tried in a child process" in done.stdout
    assert "training.precision     fp32   bf16 ends the process here" in done.stdout
    assert "training.threads       " in done.stdout
    assert "training.channels_last " in done.stdout
    assert "training.compile       false" in done.stdout
    words = ["train", "digits", "model.name=mlp", "training.epochs=1", "--name", "a"]
    done = subprocess.run([sys.executable, "-m", "danlu", *words], capture_output=True, text=True, check=True)
    assert "training.precision=fp32   bf16 ends the process here (illegal instruction, SIGILL)" in done.stderr
    assert "  precision: fp32  # auto: bf16 ends the process here" in Path("runs/a/config.yaml").read_text()


def test_nothing_is_tried_in_a_run_too_short_to_pay_for_it(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_child", lambda *_: pytest.fail("tried"))
    choices = choose_by_measuring(read_config(), network, measured(), total_steps=10)
    assert choices["training.precision"][0] == "fp32"
    assert "is too short to try bf16" in choices["training.precision"][1]
    assert choices["training.compile"][0] is False
    assert set(choices) == {f"training.{name}" for name in ("threads", "channels_last", "precision", "compile")}
    assert choices["training.threads"][0] >= 1


def test_what_the_user_set_is_not_chosen(network: nn.Module) -> None:
    settings = {"threads": 1, "channels_last": False, "precision": "fp32", "compile": False}
    config = read_config(settings={"training": settings})
    assert choose_by_measuring(config, network, measured(), total_steps=10) == {}


def test_known_to_work_is_still_not_tried_with_this_model_in_a_short_run(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    survival("bf16", CPU)  # now it is known
    monkeypatch.setattr(module, "survival", lambda name, device: "")
    monkeypatch.setattr(module, "run_child", lambda *_: pytest.fail("tried"))
    name, reason = Measured(network, measured()).choose_precision(Way(), 10)
    assert (name, reason) == ("fp32", "a run of about 10 s is too short to try bf16")


def test_trial_that_ran_out_of_time_is_tried_again_another_time(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "survival", lambda name, device: "")
    monkeypatch.setattr(module, "run_child", lambda *_: {"failure": "takes longer", "timed_out": True})
    probe = Measured(network, measured())
    assert probe.choose_precision(Way(), 3600) == ("fp32", "bf16 takes longer")
    assert probe.known.trial(Way(precision="bf16")) is None


def test_precision_that_ran_out_of_time_is_tried_again_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_child", lambda *_: {"failure": "takes longer", "timed_out": True})
    assert survival("bf16", CPU) == "takes longer"
    monkeypatch.setattr(module, "run_child", lambda *_: {"works": True})
    assert survival("bf16", CPU) == ""


def tried(base: float, milliseconds: float, first_seconds: float = 1.0) -> dict[str, Any]:
    timed = {"milliseconds": milliseconds, "first_seconds": first_seconds}
    return {"base": {"milliseconds": base}, "timed": timed}


@pytest.mark.parametrize(("milliseconds", "chosen"), [(8.0, "bf16"), (9.5, "fp32"), (20.0, "fp32")])
def test_bf16_is_taken_when_steps_are_at_least_15_percent_faster(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, milliseconds: float, chosen: str
) -> None:
    monkeypatch.setattr(module, "survival", lambda name, device: "")
    monkeypatch.setattr(module, "run_child", lambda *_: tried(10.0, milliseconds))
    name, reason = Measured(network, measured()).choose_precision(Way(), 3600)
    assert name == chosen
    assert f"a step takes {milliseconds:.1f} ms in bf16 and 10.0 ms in fp32" in reason


@pytest.mark.parametrize(
    ("run_seconds", "told", "chosen", "words"),
    [
        (3600, tried(10, 8, 60), True, "saves 11 min of 60 min"),
        (3600, tried(10, 9.9, 60), False, "does not pay back in 60 min"),
        (3600, {"failure": "does not work here (no compiler)"}, False, "does not work here"),
        (600, tried(10, 1, 1), False, "is too short to try it"),
    ],
)
def test_compilation_is_taken_only_when_it_pays_back_within_the_run(
    network: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    run_seconds: float,
    told: dict[str, Any],
    chosen: bool,
    words: str,
) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: name)
    monkeypatch.setattr(module, "run_child", lambda *_: told)
    choice, reason = Measured(network, measured()).choose_compile(Way(), run_seconds)
    assert (choice, words in reason) == (chosen, True), reason


def test_no_compiler_no_compilation(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert Measured(network, measured()).choose_compile(Way(), 1e6) == (False, "there is no C++ compiler here")


def test_what_a_busy_machine_measured_is_not_kept(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_oversubscribed", lambda: True)
    choose_by_measuring(read_config(), network, measured(), 10)
    assert not Measured(network, measured()).known.path.exists()


def test_next_run_chooses_the_same_without_measuring(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_oversubscribed", lambda: False)
    first = choose_by_measuring(read_config(), network, measured(), 10)
    monkeypatch.setattr(module, "time_ways", lambda *_: pytest.fail("measured again"))
    assert choose_by_measuring(read_config(), network, measured(), 10) == first


def test_damaged_memory_of_measurements_is_said_and_replaced(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "is_oversubscribed", lambda: False)
    choose_by_measuring(read_config(), network, measured(), 10)
    path = Measured(network, measured()).known.path
    path.write_text("{")
    choose_by_measuring(read_config(), network, measured(), 10)
    assert "is damaged" in capsys.readouterr().err
    assert json.loads(path.read_text())["ways"]


def test_several_processes_share_the_cores(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 8)
    monkeypatch.setattr(module, "time_ways", lambda net, x, y, ways: [module.Timed(way, 1.0, 1.0) for way in ways])
    choices = choose_by_measuring(read_config(), network, measured(processes=4), 10)
    assert choices["training.threads"] == (2, "8 cores for 4 processes")


def test_measuring_leaves_the_model_its_gradients_and_the_threads_alone(network: nn.Module) -> None:
    before = [p.detach().clone() for p in network.parameters()]
    threads = torch.get_num_threads()
    ways = [Way(threads=2), Way(threads=1, channels_last=True)]
    timed = time_ways(network, *example_batch(SHAPE, "images", 4, 3), ways)
    assert [one.way for one in timed] == ways
    assert all(one.milliseconds > 0 for one in timed)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(p.grad is None for p in network.parameters())
    assert torch.get_num_threads() == threads


def test_child_measures_a_way_against_the_first(tmp_path: Path) -> None:
    request = {
        "model": DESCRIPTION,
        "batch_size": 4,
        "device": "cpu",
        "ways": [asdict(Way()), asdict(Way(channels_last=True))],
    }
    told = run_child("danlu.training.measure", request, 60)
    assert "failure" not in told
    assert told["base"]["way"]["channels_last"] is False
    assert told["timed"]["way"]["channels_last"] is True


def test_signals_have_names() -> None:
    assert module._signal(signal.SIGILL) == "illegal instruction, SIGILL"
    assert module._signal(signal.SIGBUS) == "SIGBUS"
