"""How long a training step takes one way or another, measured in turn on copies of a model.

As a module (`python -m danlu.training.measure`) it measures in a process of its own what could end a process: it reads
one JSON request from stdin and answers one JSON line for each way it tries, before and after.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from danlu.training.precision import Precision

ROUNDS = 5
SECONDS_EACH = 0.3


@dataclass(frozen=True)
class Way:
    """One way to compute a step."""

    threads: int = 1
    channels_last: bool = False
    precision: str = "fp32"
    compile: bool = False


@dataclass(frozen=True)
class Timed:
    """`milliseconds` a step, the median of rounds; `first_seconds`: the first step, which compiles where asked to."""

    way: Way
    milliseconds: float
    first_seconds: float


def time_ways(model: nn.Module, inputs: Tensor, labels: Tensor, ways: Sequence[Way]) -> list[Timed]:
    """Forward and backward of each way, in turn, on copies; the model and the number of threads stay as they are."""
    before = torch.get_num_threads()
    steps = [_step(model, inputs, labels, way) for way in ways]
    first: list[float] = []
    taken: list[list[float]] = [[] for _ in ways]
    try:
        for round_ in range(ROUNDS + 1):
            for place, way in enumerate(ways):
                torch.set_num_threads(way.threads)
                seconds, count = _repeat(steps[place], 0.0 if round_ == 0 else SECONDS_EACH / ROUNDS, inputs.device)
                if round_ == 0:
                    first.append(seconds)
                else:
                    taken[place].append(seconds / count)
    finally:
        torch.set_num_threads(before)
    return [Timed(way, statistics.median(taken[place]) * 1e3, first[place]) for place, way in enumerate(ways)]


def _step(model: nn.Module, inputs: Tensor, labels: Tensor, way: Way) -> Callable[[], None]:
    trial = copy.deepcopy(model).train()
    trial.to(memory_format=torch.channels_last if way.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    forward = torch.compile(trial) if way.compile else trial
    precision = Precision(way.precision, inputs.device)

    def step() -> None:
        with precision.forward():
            loss = functional.cross_entropy(forward(inputs), labels)
        precision.backward(loss)
        trial.zero_grad(set_to_none=True)

    return step


def _repeat(step: Callable[[], None], at_least: float, device: torch.device) -> tuple[float, int]:
    """(seconds, steps): one step or more, until so many seconds have passed."""
    started, count = time.perf_counter(), 0
    while True:
        step()
        count += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        used = time.perf_counter() - started
        if used >= at_least:
            return used, count


def example_batch(shape: Sequence[int], kind: str, batch_size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """Random inputs and labels of the form a model reads; `shape` as in `model.json`."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, num_classes, (batch_size,), generator=generator)
    if kind == "images":
        return torch.randn(batch_size, *shape, generator=generator), labels
    vocabulary_size, length = shape
    return torch.randint(1, vocabulary_size, (batch_size, length), generator=generator), labels


def answer(request: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Time the first way of a request against each other one, and tell before and after each."""
    from danlu.models.build import build_model
    from danlu.models.shapes import ImageShape, TextShape

    told = request["model"]
    shape_type = ImageShape if told["kind"] == "images" else TextShape
    device = torch.device(request["device"])
    classes = len(told["classes"])
    model = build_model(told["name"], shape_type(*told["example_shape"]), classes, told["options"]).to(device)
    batch = example_batch(told["example_shape"], told["kind"], request["batch_size"], classes)
    inputs, labels = (tensor.to(device) for tensor in batch)
    base, *others = (Way(**way) for way in request["ways"])
    for way in others:
        tell({"trying": asdict(way)})
        compared, timed = time_ways(model, inputs, labels, [base, way])
        tell({"base": asdict(compared), "timed": asdict(timed)})


if __name__ == "__main__":
    answer(json.load(sys.stdin), lambda row: print(json.dumps(row), flush=True))  # noqa: T201 (the answer)
