"""Several processes train as one: the same numbers, one writer, and a restart when one of them dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_resume import state_hash

from danlu.base.runs import Run
from danlu.training.processes import Processes

SCRIPT = Path(__file__).parent.parent / "torchrun_training.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}


def run(words: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def results(folder: Path, what: str, processes: int) -> list[dict[str, Any]]:
    folder.mkdir()
    words: list[Any] = [sys.executable, SCRIPT, folder, what]
    if processes > 1:
        words = [*TORCHRUN, "--standalone", "--nproc-per-node", processes, SCRIPT, folder, what]
    run(words, folder)
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(processes)]


def test_rows_of_all_processes_are_the_batch() -> None:
    for count in (1, 2, 3, 4, 7):
        for size in (0, 1, 3, 64, 65):
            rows = []
            for rank in range(count):
                one = Processes()
                one.rank, one.count = rank, count
                rows += list(range(*one.rows(size)))
            assert rows == list(range(size))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["norm and dropout", "accumulation", "balanced", "odd"])
def test_two_and_four_processes_train_to_the_numbers_of_one(tmp_path: Path, what: str) -> None:
    alone = results(tmp_path / "1", what, 1)[0]
    for processes in (2, 4):
        together = results(tmp_path / str(processes), what, processes)
        assert [one["processes"] for one in together] == [processes] * processes
        for one in together:
            assert one["history"] == [pytest.approx(row, rel=1e-9, abs=1e-9) for row in alone["history"]]
            assert one["weights"] == pytest.approx(alone["weights"], rel=1e-9, abs=1e-9)
            assert one["weights"] == together[0]["weights"]
            assert one["alone"] == pytest.approx(alone["alone"], rel=1e-9)


# The command


def danlu_words(name: str, *more: str) -> list[str]:
    words = [sys.executable, "-m", "danlu", "train", "digits", "model.name=mlp", "training.epochs=30"]
    return [*words, "training.threads=1", "checkpoint.every_steps=20", "--name", name, *more]


@pytest.mark.slow
def test_command_with_two_processes_equals_one_and_a_run_cut_in_between(tmp_path: Path) -> None:
    run(danlu_words("one"), tmp_path)
    done = run(danlu_words("two", "--processes", "2"), tmp_path)
    one, two = (Run(tmp_path / "runs" / name) for name in ("one", "two"))
    assert done.stderr.count("epoch 30/30") == 1
    assert "Warning" not in done.stderr
    assert two.status()["state"] == "finished"
    first = [(a["loss"], b["loss"]) for a, b in zip(one.steps(), two.steps(), strict=True)]
    assert all(a == pytest.approx(b, rel=1e-3) for a, b in first[:40])
    last = [run.history()[-1] for run in (one, two)]
    assert last[0]["train_loss"] == pytest.approx(last[1]["train_loss"], rel=0.02)


def wait_for(path: Path, what: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while what not in path.read_text(encoding="utf-8", errors="replace"):
        assert time.monotonic() < until, path.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.05)


def workers_of(name: str) -> list[int]:
    """The processes that train a run, found by their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--resume" in words and any(word.endswith(name.encode()) for word in words):
            found.append(int(folder.name))
    return sorted(found)


@pytest.mark.kill
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_process_makes_all_start_again_to_the_same_bits(tmp_path: Path, rank: int) -> None:
    run(danlu_words("whole", "--processes", "2"), tmp_path)
    err = tmp_path / "err"
    with open(err, "wb") as file:
        process = subprocess.Popen(danlu_words("killed", "--processes", "2"), cwd=tmp_path, stderr=file)
    wait_for(err, "epoch  5/30")
    os.kill(workers_of("killed")[rank], signal.SIGKILL)
    assert process.wait(120) == 0, err.read_text()[-3000:]
    told = err.read_text()
    assert "going on after step" in told
    assert "Traceback" not in told and "internal error" not in told
    folders = [tmp_path / "runs" / name / "checkpoints" for name in ("whole", "killed")]
    assert state_hash(folders[0]) == state_hash(folders[1])
    assert Run(tmp_path / "runs" / "killed").steps() == Run(tmp_path / "runs" / "whole").steps()


@pytest.mark.kill
def test_signal_to_the_command_saves_in_all_processes_and_the_run_goes_on(tmp_path: Path) -> None:
    run(danlu_words("whole", "--processes", "2"), tmp_path)
    err = tmp_path / "err"
    with open(err, "wb") as file:
        process = subprocess.Popen(danlu_words("stopped", "--processes", "2"), cwd=tmp_path, stderr=file)
    wait_for(err, "epoch  5/30")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143, err.read_text()[-3000:]
    assert Run(tmp_path / "runs" / "stopped").status()["state"] == "interrupted"
    run([sys.executable, "-m", "danlu", "train", "--resume", "stopped", "--processes", "2"], tmp_path)
    folders = [tmp_path / "runs" / name / "checkpoints" for name in ("whole", "stopped")]
    assert state_hash(folders[0]) == state_hash(folders[1])


@pytest.mark.slow
def test_failure_in_several_processes_is_one_message_with_its_exit_code(tmp_path: Path) -> None:
    words = danlu_words("bad", "training.learning_rate=1e30", "training.optimizer=sgd", "--processes", "2")
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr[-3000:]
    assert done.stderr.count("ModelError: the training loss became NaN in epoch 1") >= 1
    assert "Traceback" not in done.stderr
    assert Run(tmp_path / "runs" / "bad").status()["state"] == "failed"


@pytest.mark.kill
def test_plain_torchrun_finds_its_run_again_after_a_kill(tmp_path: Path) -> None:
    run(danlu_words("whole", "--processes", "2"), tmp_path)
    words = danlu_words("torchrun")[1:]
    err = tmp_path / "err"
    with open(err, "wb") as file:
        launcher = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "--max-restarts", "2", *words]
        process = subprocess.Popen(launcher, cwd=tmp_path, stderr=file, env={**os.environ, **QUIET})
    wait_for(err, "epoch  5/30")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    assert process.wait(120) == 0, err.read_text()[-3000:]
    folders = [tmp_path / "runs" / name / "checkpoints" for name in ("whole", "torchrun")]
    assert state_hash(folders[0]) == state_hash(folders[1])


# Two hosts


@pytest.fixture
def two_hosts() -> Iterator[tuple[list[str], list[str]]]:
    """Command prefixes for two network namespaces joined by a virtual cable; skipped where that is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` command here")
    tag = f"dl{os.getpid() % 10000}"
    hosts = [f"{tag}a", f"{tag}b"]
    steps = [f"netns add {hosts[0]}", f"netns add {hosts[1]}", f"link add {tag}0 type veth peer name {tag}1"]
    for number, host in enumerate(hosts):
        steps += [
            f"link set {tag}{number} netns {host}",
            f"-n {host} addr add 10.77.0.{number + 1}/24 dev {tag}{number}",
        ]
        steps += [f"-n {host} link set {tag}{number} up", f"-n {host} link set lo up"]
    try:
        for step in steps:
            done = subprocess.run(["ip", *step.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
        yield tuple(  # type: ignore[misc]
            ["ip", "netns", "exec", host, "env", f"GLOO_SOCKET_IFNAME={tag}{number}"]
            for number, host in enumerate(hosts)
        )
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host], capture_output=True, check=False)


@pytest.mark.slow
def test_two_hosts_train_one_run_that_the_first_one_writes(
    tmp_path: Path, two_hosts: tuple[list[str], list[str]]
) -> None:
    run(danlu_words("local", "--processes", "2"), tmp_path)
    homes = [tmp_path / "host0", tmp_path / "host1"]
    processes = []
    for number, (prefix, home) in enumerate(zip(two_hosts, homes, strict=True)):
        home.mkdir()
        words = [*prefix, *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(number)]
        words += ["--master-addr", "10.77.0.1", "--master-port", "29577", *danlu_words("both")[1:]]
        env = {**os.environ, **QUIET, "DANLU_CACHE": str(home / ".cache")}
        processes.append(subprocess.Popen(words, cwd=home, env=env, stderr=subprocess.PIPE, text=True))
    told = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert not (homes[1] / "runs").exists()
    assert re.search(r"epoch 30/30", told[0])
    assert "epoch" not in told[1]
    local, both = tmp_path / "runs" / "local", homes[0] / "runs" / "both"
    assert state_hash(local / "checkpoints") == state_hash(both / "checkpoints")
