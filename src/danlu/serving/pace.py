"""How fast a model answers here, measured when it is loaded: whether computing several together pays, and how many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from danlu.inputs.images import ImageRecipe
from danlu.prediction.predictor import Predictor

SIZES = (1, 2, 4, 8, 16, 32)
SECONDS_EACH = 0.004
LEAST_CALLS = 3
LONGEST_BATCH = 0.1
WORTH = 0.9  # of the seconds an example takes in a smaller batch
FEW_TOKENS = 40


@dataclass(frozen=True)
class Pace:
    """`alone`: seconds of one example. `together`: how many at a time cost least each, `each` seconds."""

    alone: float
    together: int
    each: float


def measure_pace(predictor: Predictor, *, depends_on_batch: bool = False) -> Pace:
    """A larger batch is taken where it saves a tenth for each example and takes no more than 0.1 s.

    `depends_on_batch`: an example is answered otherwise in company, so each is asked alone.
    """
    alone = each = _seconds(predictor, 1)
    together = 1
    if depends_on_batch:
        return Pace(alone, 1, alone)
    for size in SIZES[1:]:
        if size * each > LONGEST_BATCH:
            break
        found = _seconds(predictor, size) / size
        if found <= WORTH * each:
            together, each = size, found
    return Pace(alone, together, each)


def invented(predictor: Predictor, count: int) -> Any:
    """Inputs nobody sent, as the model reads them."""
    rng = np.random.default_rng(0)
    if isinstance(predictor.recipe, ImageRecipe):
        return rng.integers(0, 256, (count, *predictor.recipe.shape), dtype=np.uint8)
    length = min(FEW_TOKENS, predictor.recipe.max_length)
    return rng.integers(1, predictor.recipe.vocabulary_size, (count, length)).tolist()


def _seconds(predictor: Predictor, count: int) -> float:
    """The least time of a call, over about 0.004 s and at least three calls: another may have had the core in one."""
    rows = invented(predictor, count)
    predictor.with_features(rows)
    taken: list[float] = []
    ends = time.perf_counter() + SECONDS_EACH
    while len(taken) < LEAST_CALLS or time.perf_counter() < ends:
        started = time.perf_counter()
        predictor.with_features(rows)
        taken.append(time.perf_counter() - started)
    return min(taken)
