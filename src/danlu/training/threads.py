"""How many processor threads a training step is fastest with, measured on the model at hand."""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from danlu.base.machine import available_cores

SECONDS_EACH = 0.25
ROUNDS = 5
WORTH = 1.2


def choose_threads(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[int, str]:
    """(threads, reason): all cores when a step is at least a fifth faster with them, else one.

    Small steps lose more by waiting for each other than they gain, and on a machine that is busy with other work a
    second thread makes every step wait. Steps are timed in turn on a copy of the model; the medians decide.
    """
    cores = available_cores()
    if cores == 1:
        return 1, "one core"
    before = torch.get_num_threads()
    trial = copy.deepcopy(model).train()
    seconds: dict[int, list[float]] = {1: [], cores: []}
    try:
        for round_ in range(ROUNDS + 1):
            for threads, timed in seconds.items():
                torch.set_num_threads(threads)
                measured = _seconds_a_step(trial, inputs, labels)
                if round_:  # the first round warms up
                    timed.append(measured)
    finally:
        torch.set_num_threads(before)
    one, all_ = (statistics.median(seconds[n]) * 1e3 for n in (1, cores))
    told = f"a step takes {one:.1f} ms with 1 thread and {all_:.1f} ms with {cores}, measured now"
    return (cores if one > WORTH * all_ else 1), told


def _seconds_a_step(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    started = time.perf_counter()
    steps = 0
    while True:
        functional.cross_entropy(model(inputs), labels).backward()
        model.zero_grad(set_to_none=True)
        steps += 1
        used = time.perf_counter() - started
        if used > SECONDS_EACH / ROUNDS:
            return used / steps
