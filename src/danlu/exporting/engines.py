"""Ways to run a model, measured: threads and optimization of the graph, beside PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from danlu.base.machine import available_cores
from danlu.prediction.onnx_engine import HowToRun, OnnxEngine
from danlu.prediction.predictor import Engine

OPTIMIZATIONS = ("basic", "extended", "all")
BATCH = 64
SECONDS = 0.05
ROUNDS = 3


@dataclass(frozen=True)
class Measured:
    """`p50_ms`: the median time of one example alone; `per_second`: examples a second in batches of 64."""

    engine: str
    variant: str
    threads: int
    optimization: str
    p50_ms: float
    per_second: float


@dataclass(frozen=True)
class Fastest:
    """The way to run a model that costs least: the product of its seconds for one example and for 64 together."""

    how: HowToRun
    cost: float
    row: Measured


def measure_engines(
    models: dict[str, Callable[[HowToRun], OnnxEngine]], torch_engine: Engine, rows: np.ndarray
) -> tuple[list[Measured], dict[str, Fastest]]:
    """A row a way, and for each variant its fastest way.

    `models`: variant → what opens it. `rows`: (B, …) inputs, of which up to 64 are used. The ways take turns, so that
    another process on the machine slows all of them.
    """
    ways: dict[tuple[str, HowToRun], Engine] = {
        (variant, how): open_(how)
        for (variant, open_), how in product(
            models.items(),
            [
                HowToRun(threads, optimization)
                for threads in sorted({1, available_cores()})
                for optimization in OPTIMIZATIONS
            ],
        )
    }
    batch = np.ascontiguousarray(np.resize(rows, (BATCH, *rows.shape[1:])))
    seconds: dict[tuple[str, HowToRun], tuple[list[float], list[float]]] = {way: ([], []) for way in ways}
    own: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for way, engine in ways.items():
            seconds[way][0].append(_seconds(engine, batch[:1]))
            seconds[way][1].append(_seconds(engine, batch))
        own[0].append(_seconds(torch_engine, batch[:1]))
        own[1].append(_seconds(torch_engine, batch))
    table = [_row("onnxruntime", variant, how, seconds[variant, how]) for variant, how in ways]
    table.append(_row("torch", "trained", HowToRun(optimization="-"), own))
    best: dict[str, Fastest] = {}
    for (variant, how), (alone, together) in seconds.items():
        cost = min(alone) * min(together)
        if variant not in best or cost < best[variant].cost:
            best[variant] = Fastest(how, cost, _row("onnxruntime", variant, how, (alone, together)))
    return table, best


def _row(engine: str, variant: str, how: HowToRun, seconds: tuple[list[float], list[float]]) -> Measured:
    alone, together = (float(np.median(taken)) for taken in seconds)
    return Measured(engine, variant, how.threads, how.optimization, round(1000 * alone, 4), round(BATCH / together, 1))


def _seconds(engine: Engine, rows: np.ndarray) -> float:
    """The median time of a call, over about 0.05 s."""
    engine.probabilities(rows)
    taken: list[float] = []
    ends = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < ends:
        started = time.perf_counter()
        engine.probabilities(rows)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))
