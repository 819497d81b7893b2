"""Trainings in processes that can be killed, started in milliseconds from a server that has PyTorch loaded."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["danlu.training.train"])
EVERY_STEPS = 5
SETTINGS = {
    "model.name": "mlp",
    "training.epochs": 40,
    "training.threads": 1,
    "training.ema": 0.9,
    "training.schedule": "plateau",
    "checkpoint.every_steps": EVERY_STEPS,
}


def start(function: Callable[..., None], *arguments: Any, home: Path) -> BaseProcess:
    """Run `function(*arguments)` in a process of its own with `home` as working folder; stderr goes to `home/err`."""
    process = CONTEXT.Process(target=_run, args=(function, arguments, str(home)))
    process.start()
    return process


def _run(function: Callable[..., None], arguments: tuple[Any, ...], home: str) -> None:
    import torch

    os.chdir(home)
    os.environ["DANLU_CACHE"] = str(Path(home) / ".cache")
    os.environ.pop("DANLU_RUNS", None)
    torch.set_num_threads(1)
    log = os.open("err", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 (for the life of the process)
    function(*arguments)


class Counter:
    """A number in a file that survives the process that counts; -1 in a new one."""

    def __init__(self, path: Path) -> None:
        with open(path, "a+b") as file:
            file.truncate(8)  # made by whoever comes first, left as it is by the others
            self.memory = mmap.mmap(file.fileno(), 8)

    def set(self, value: int) -> None:
        self.memory[:] = struct.pack("q", value + 1)

    def get(self) -> int:
        return int(struct.unpack("q", self.memory[:])[0]) - 1

    def wait_until_it_moves(self, process: BaseProcess, seconds: float = 60) -> None:
        self.set(-1)
        until = time.monotonic() + seconds
        while self.get() < 0 and process.is_alive() and time.monotonic() < until:
            time.sleep(0.001)

    def wait_for_more_steps(self, process: BaseProcess, steps: int) -> None:
        """Wait until a process that has just started has done so many steps."""
        self.wait_until_it_moves(process)
        target = self.get() + steps
        while self.get() < target and process.is_alive():
            time.sleep(0.001)


def count_steps(path: Path) -> None:
    """Make danlu's image batches write how many steps of the training are done."""
    from danlu.data.batches import Batch, ImageBatches

    counter = Counter(path)
    own = ImageBatches.epoch

    def epoch(self: ImageBatches, number: int, start: int = 0) -> Iterator[Batch]:
        done = number * len(self) + start
        for batch in own(self, number, start):
            yield batch
            done += 1
            counter.set(done)

    ImageBatches.epoch = epoch  # type: ignore[method-assign]


def train_or_resume(name: str, settings: dict[str, Any]) -> None:
    """The run `name` on digits, from where it is."""
    import danlu
    from danlu.base.runs import Run

    count_steps(Path("steps-done"))
    if Run(Path("runs") / name).config_file.exists() and (Path("runs") / name / "model.json").exists():
        danlu.resume(f"runs/{name}")
    else:
        danlu.train("digits", settings, name=name)


def limit_file_size(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))
