"""Ways to run a model, measured: threads and optimization of the graph, beside PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

from danlu.base.machine import available_cores
from danlu.prediction.onnx_engine import HowToRun, OnnxEngine
from danlu.prediction.predictor import Engine

OPTIMIZATIONS = ("extended", "all")
BATCH = 64
SECONDS = 0.03
ROUNDS = 5
T = TypeVar("T")
Pair = tuple[float, float]  # seconds of one example alone, and of 64 together


@dataclass(frozen=True)
class Measured:
    """`p50_ms`: the median time of one example alone; `per_second`: examples a second in batches of 64.

    Both of the best of five turns, since what else runs on the machine only ever adds.
    """

    engine: str
    variant: str
    threads: int
    optimization: str
    spinning: bool
    p50_ms: float
    per_second: float


@dataclass(frozen=True)
class Fastest:
    """The way to run a model that costs least: the geometric mean of its seconds for one example and for 64."""

    how: HowToRun
    cost: float
    row: Measured


def measure_engines(
    models: dict[str, Callable[[HowToRun], OnnxEngine]], torch_engine: Engine, rows: np.ndarray
) -> tuple[list[Measured], dict[str, Fastest]]:
    """A row a way, and for each variant its fastest way.

    `models`: variant → what opens it. `rows`: (B, …) inputs, of which up to 64 are used. The ways take turns, so that
    another process on the machine slows all of them; PyTorch comes first, alone, since threads that spin slow it.
    """
    batch = _batch(rows)
    torch_way, own = _in_the_faster_way(lambda: [_both(torch_engine, batch) for _ in range(ROUNDS)], lambda own: own)
    ways: dict[tuple[str, HowToRun], Engine] = {
        (variant, how): open_(how) for (variant, open_), how in product(models.items(), _ways_to_run())
    }
    seconds: dict[tuple[str, HowToRun], list[Pair]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, engine in ways.items():
            seconds[way].append(_both(engine, batch))
    table = [_row("onnxruntime", variant, how, seconds[variant, how]) for variant, how in ways]
    table.append(_row("torch", "trained", torch_way, own))
    best: dict[str, Fastest] = {}
    for (variant, how), taken in seconds.items():
        cost = _cost(taken)
        if variant not in best or cost < best[variant].cost:
            best[variant] = Fastest(how, cost, _row("onnxruntime", variant, how, taken))
    return table, best


def measure_beside(trained: Engine, exported: Engine, rows: np.ndarray) -> tuple[Measured, Measured]:
    """A row of the trained model, in its faster way, and one of what was made of it; they take turns."""
    batch = _batch(rows)

    def turns() -> list[tuple[Pair, Pair]]:
        return [(_both(trained, batch), _both(exported, batch)) for _ in range(ROUNDS)]

    torch_way, taken = _in_the_faster_way(turns, lambda taken: [pair[0] for pair in taken])
    engine = "onnxruntime" if isinstance(exported, OnnxEngine) else "torch"
    how = HowToRun(available_cores()) if engine == "onnxruntime" else torch_way
    return (
        _row("torch", "trained", torch_way, [pair[0] for pair in taken]),
        _row(engine, "exported", how, [pair[1] for pair in taken]),
    )


def _in_the_faster_way(measure: Callable[[], T], of_torch: Callable[[T], list[Pair]]) -> tuple[HowToRun, T]:
    """What was measured with one thread of PyTorch's or with all of them, by what `of_torch` takes of it."""
    import torch

    before, found = torch.get_num_threads(), {}
    try:
        for threads in sorted({1, available_cores()}):
            torch.set_num_threads(threads)
            found[threads] = measure()
    finally:
        torch.set_num_threads(before)
    best = min(found, key=lambda threads: _cost(of_torch(found[threads])))
    return HowToRun(best, "-"), found[best]


def _batch(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.resize(rows, (BATCH, *rows.shape[1:])))


def _ways_to_run() -> list[HowToRun]:
    """One thread has nothing to wait for; as many as there are cores wait with and without spinning."""
    cores = available_cores()
    threads = [(1, False), *([(cores, False), (cores, True)] if cores > 1 else [])]
    return [HowToRun(number, level, spinning) for (number, spinning), level in product(threads, OPTIMIZATIONS)]


def _row(engine: str, variant: str, how: HowToRun, taken: list[Pair]) -> Measured:
    alone, together = np.min(taken, axis=0)
    p50_ms, per_second = round(1000 * float(alone), 4), round(BATCH / float(together), 1)
    return Measured(engine, variant, how.threads, how.optimization, how.spinning, p50_ms, per_second)


def _cost(taken: list[Pair]) -> float:
    """The geometric mean of the least seconds for one example and for 64."""
    return float(np.sqrt(np.prod(np.min(taken, axis=0))))


def _both(engine: Engine, batch: np.ndarray) -> Pair:
    return (_seconds(engine, batch[:1]), _seconds(engine, batch))


def _seconds(engine: Engine, rows: np.ndarray) -> float:
    """The median time of a call, over about 0.03 s."""
    engine.probabilities(rows)
    taken: list[float] = []
    ends = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < ends:
        started = time.perf_counter()
        engine.probabilities(rows)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))
