"""What is left of a training that is killed, stopped, starved or raced, and that it goes on to the same bits."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import state_hash

import danlu
from crash_runs import EVERY_STEPS, SETTINGS, Counter, limit_file_size, start, train_or_resume
from danlu.base.errors import ConfigError, MachineError
from danlu.base.runs import Run, find_run
from danlu.training.checkpoints import Checkpoints, load_checkpoint
from pictures import write_pictures

pytestmark = pytest.mark.kill
KILLS = 30
DANLU = [sys.executable, "-m", "danlu"]


def checkpoints_of(home: Path, name: str) -> Path:
    return home / "runs" / name / "checkpoints"


def whole_run(home: Path, **settings: Any) -> Path:
    """An uninterrupted training to compare with, saved at other moments."""
    process = start(train_or_resume, "whole", {**SETTINGS, "checkpoint.every_steps": 300, **settings}, home=home)
    process.join()
    assert process.exitcode == 0, (home / "err").read_text()[-2000:]
    return checkpoints_of(home, "whole")


def told(home: Path) -> str:
    return (home / "err").read_text(encoding="utf-8")


def assert_same_end(home: Path, name: str, whole: Path) -> None:
    run = Run(home / "runs" / name)
    assert run.status()["state"] == "finished"
    assert state_hash(checkpoints_of(home, name)) == state_hash(whole)
    steps = [row["step"] for row in run.steps()]
    assert steps == list(range(len(steps)))
    assert run.steps() == Run(home / "runs" / "whole").steps()
    assert [row["epoch"] for row in run.history()] == list(range(SETTINGS["training.epochs"]))


def test_thirty_random_kills_lose_at_most_n_steps_and_change_no_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = whole_run(tmp_path)
    chance = random.Random(2024)
    counter, folder = Counter(tmp_path / "steps-done"), checkpoints_of(tmp_path, "killed")
    kills, lost, saved_before = 0, [], 0
    while kills < KILLS:
        process = start(train_or_resume, "killed", SETTINGS, home=tmp_path)
        if kills % 5:
            counter.wait_for_more_steps(process, chance.randint(0, 24))  # 800 steps are enough for all kills
            time.sleep(chance.uniform(0, 0.01))
        else:  # anywhere in the start too
            counter.set(-1)
            time.sleep(chance.uniform(0, 1.0))
        if not process.is_alive():
            break
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        kills += 1
        done = counter.get()
        if not folder.exists():
            continue
        found = Checkpoints(folder).load_latest()  # raises when nothing can be loaded
        saved = found[0].values["step"] if found else 0
        assert saved >= saved_before
        saved_before = saved
        if done >= 0:
            lost.append(done - saved)
    assert kills == KILLS, f"the training ended after {kills} kills"
    process = start(train_or_resume, "killed", SETTINGS, home=tmp_path)
    process.join()
    assert process.exitcode == 0, told(tmp_path)[-2000:]
    assert_same_end(tmp_path, "killed", whole)
    assert max(lost) <= EVERY_STEPS
    assert "Traceback" not in told(tmp_path)
    with capsys.disabled():
        print(f"\n{kills} kills, 0 unloadable, at most {max(lost)} of {EVERY_STEPS} steps lost, end state equal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_where_they_come_and_the_end_is_the_same(tmp_path: Path, number: signal.Signals) -> None:
    settings = {**SETTINGS, "checkpoint.every_steps": 100_000}  # only the signal saves
    whole = whole_run(tmp_path)
    chance, counter = random.Random(5), Counter(tmp_path / "steps-done")
    for _ in range(6):
        process = start(train_or_resume, "stopped", settings, home=tmp_path)
        counter.wait_for_more_steps(process, chance.randint(1, 90))
        time.sleep(chance.uniform(0, 0.01))
        done = counter.get()
        sent = time.monotonic()
        os.kill(process.pid or 0, number)
        process.join()
        assert time.monotonic() - sent < 2
        saved = load_checkpoint(checkpoints_of(tmp_path, "stopped"), "latest").values["step"]
        assert saved >= done
        assert Run(tmp_path / "runs" / "stopped").status()["state"] == "interrupted"
    start(train_or_resume, "stopped", settings, home=tmp_path).join()
    assert_same_end(tmp_path, "stopped", whole)


def wait_for(path: Path, what: str, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if path.exists() and what in path.read_text(encoding="utf-8", errors="replace"):
            return
        time.sleep(0.02)
    raise AssertionError(f"{what!r} did not appear: {path.read_text(encoding='utf-8') if path.exists() else ''}")


def command(tmp_path: Path, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
    err = tmp_path / f"err-{len(list(tmp_path.glob('err-*')))}"
    with open(err, "wb") as file:
        return subprocess.Popen([*DANLU, *words], cwd=tmp_path, stderr=file, stdout=subprocess.DEVNULL), err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_command_line_ends_with_the_signals_code_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = ["train", "digits", "model.name=mlp", "training.epochs=2000", "training.threads=1", "--name", "a"]
    process, err = command(tmp_path, *words)
    wait_for(err, "epoch    3/2000")
    process.send_signal(number)
    assert process.wait(20) == code
    assert f"stopped by {number.name}; go on with `danlu train --resume runs/a`" in err.read_text()
    assert "Traceback" not in err.read_text()
    again = subprocess.run([*DANLU, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "`runs/a` exists already (state: interrupted)" in again.stderr
    assert "go on with it: `danlu train --resume runs/a`" in again.stderr


def test_killed_command_is_told_as_crashed_with_the_line_that_goes_on(tmp_path: Path) -> None:
    words = ["train", "digits", "model.name=mlp", "training.epochs=400", "training.threads=1", "--name", "a"]
    process, err = command(tmp_path, *words)
    wait_for(err, "epoch   3/400")
    process.kill()
    process.wait()
    listed = subprocess.run([*DANLU, "runs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"a +crashed", listed.stdout)
    again = subprocess.run([*DANLU, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "(state: crashed)" in again.stderr
    assert "danlu train --resume runs/a" in again.stderr
    resumed = subprocess.run(
        [*DANLU, "train", "--resume", "runs/a"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "going on after step" in resumed.stderr
    assert "all 400 epochs done" in resumed.stderr


def slow_saves(name: str) -> None:
    """A training whose disk takes its time, once it has started."""
    from danlu.base import files

    own = files.sync_folder

    def slow(folder: Path) -> None:
        own(folder)
        if load_count["saves"] > 10:
            time.sleep(20)
        load_count["saves"] += 1

    load_count = {"saves": 0}
    files.sync_folder = slow
    train_or_resume(name, {**SETTINGS, "checkpoint.every_steps": 100_000})


def test_second_signal_ends_at_once_and_what_was_saved_loads(tmp_path: Path) -> None:
    process = start(slow_saves, "slow", home=tmp_path)
    Counter(tmp_path / "steps-done").wait_until_it_moves(process)
    os.kill(process.pid or 0, signal.SIGTERM)
    time.sleep(1.0)
    assert process.is_alive()  # the first signal waits for the save
    sent = time.monotonic()
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join()
    assert time.monotonic() - sent < 1
    assert process.exitcode == 143
    assert Checkpoints(checkpoints_of(tmp_path, "slow")).load_latest() is not None


# Disk


def limited(name: str, size_bytes: int) -> None:
    from danlu.base.errors import DanluError

    limit_file_size(size_bytes)
    try:
        train_or_resume(name, SETTINGS)
    except DanluError as error:
        print(f"{type(error).__name__}: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


def test_disk_that_is_too_small_shows_before_the_first_step(tmp_path: Path) -> None:
    process = start(limited, "small", 100_000, home=tmp_path)
    process.join()
    assert process.exitcode == 5
    assert Counter(tmp_path / "steps-done").get() == -1
    assert re.search(r"MachineError: cannot write `[^\n]*000001\.safetensors`: File too large\n", told(tmp_path))
    assert Run(tmp_path / "runs" / "small").status()["state"] == "failed"


def test_disk_that_fills_up_keeps_the_last_save_and_goes_on_later(tmp_path: Path) -> None:
    whole = whole_run(tmp_path)
    size = (whole / sorted(p.name for p in whole.glob("0*.safetensors"))[-1]).stat().st_size
    process = start(limited, "filling", size - 1000, home=tmp_path)  # without moments the first save is smaller
    process.join()
    assert process.exitcode == 5
    assert load_checkpoint(checkpoints_of(tmp_path, "filling"), "latest").values["step"] == 0
    start(train_or_resume, "filling", SETTINGS, home=tmp_path).join()
    assert_same_end(tmp_path, "filling", whole)


def test_run_folder_that_vanishes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(self: Run, rows: Any) -> None:
        if rows[-1]["epoch"]:
            shutil.rmtree(self.folder)

    monkeypatch.setattr(Run, "add_steps", vanish)
    with pytest.raises(MachineError, match=r"cannot write `.*gone/checkpoints/.*`: No such file or directory"):
        danlu.train("digits", {**SETTINGS, "training.epochs": 3}, name="gone")


def test_read_only_runs_folder_shows_before_the_data_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o500)
    if os.access(tmp_path / "runs", os.W_OK):
        pytest.skip("root writes everywhere; every failing write is tested in test_checkpoints.py")
    with pytest.raises(MachineError, match="Permission denied"):
        danlu.train("digits", SETTINGS)


@pytest.mark.parametrize("damage", ["flip", "cut", "swap"])
def test_bit_rot_goes_back_one_save_says_so_and_ends_the_same(tmp_path: Path, damage: str) -> None:
    whole = whole_run(tmp_path)
    process = start(train_or_resume, "rotten", SETTINGS, home=tmp_path)
    counter = Counter(tmp_path / "steps-done")
    counter.wait_until_it_moves(process)
    while counter.get() < 50:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    folder = checkpoints_of(tmp_path, "rotten")
    latest, previous = (
        next(iter(json.loads((folder / f"{mark}.json").read_text())["content"]["files"]))
        for mark in ("latest", "previous")
    )
    data = bytearray((folder / latest).read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
    elif damage == "cut":
        data = data[: len(data) // 2]
    else:
        data = bytearray((folder / previous).read_bytes())
    (folder / latest).write_bytes(data)
    start(train_or_resume, "rotten", SETTINGS, home=tmp_path).join()
    assert re.search(rf"warning: `[^\n]*{latest}` is damaged[^\n]*; looking for the save before it", told(tmp_path))
    assert_same_end(tmp_path, "rotten", whole)


# Two processes


def test_second_process_on_a_run_refuses_with_one_line(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "add_history", lambda self, row: signal.raise_signal(signal.SIGINT))
        danlu.train(data, {"training.epochs": 3, "training.threads": 1}, name="a")
    run = find_run("a")
    with run.hold():
        process = subprocess.run(
            [*DANLU, "train", "--resume", "a"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert process.returncode == 5
    assert process.stderr.startswith(f"MachineError: the run `{run}` is in use by process {os.getpid()}\n")
    assert danlu.resume("a").status()["state"] == "finished"


def try_name(name: str, at: float) -> None:
    time.sleep(max(0, at - time.time()))
    try:
        train_or_resume(name, {**SETTINGS, "training.epochs": 3})
    except (ConfigError, MachineError) as error:
        print(f"refused: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


def test_race_for_a_name_has_one_winner(tmp_path: Path) -> None:
    at = time.time() + 0.5
    processes = [start(try_name, "a", at, home=tmp_path) for _ in range(4)]
    for process in processes:
        process.join()
    codes = sorted(process.exitcode or 0 for process in processes)
    assert codes[0] == 0
    assert set(codes[1:]) <= {2, 5}, told(tmp_path)
    assert Run(tmp_path / "runs" / "a").status()["state"] == "finished"
    assert "Traceback" not in told(tmp_path)


# Memory


def hungry(limit_bytes: int) -> None:
    """A wide layer on a large batch with little address space left."""
    from torch import nn

    from danlu.training.trainer import Trainer

    pairs = [(torch.randn(4096, 64), torch.arange(4096) % 3)]
    model = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 3))
    settings = {"epochs": 2, "optimizer": "sgd", "learning_rate": 0.01}
    Trainer(model, pairs, [(pairs[0][0][:8], pairs[0][1][:8])], settings={**settings, "learning_rate": 1e-9}).fit()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + limit_bytes, used + limit_bytes))
    outcome = Trainer(model, pairs * 2, [(pairs[0][0][:8], pairs[0][1][:8])], settings=settings).fit()
    print(f"done after {outcome.history[-1].step} steps", file=sys.stderr)


def test_real_shortage_of_memory_makes_smaller_pieces_and_the_training_ends(tmp_path: Path) -> None:
    process = start(hungry, 140_000_000, home=tmp_path)
    process.join()
    assert process.exitcode == 0, told(tmp_path)[-3000:]
    assert "out of memory with 4,096 examples at a time; from here on 2,048 at a time" in told(tmp_path)
    assert "done after 4 steps" in told(tmp_path)
