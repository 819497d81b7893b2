"""Searches whose trainings take no time: the score is a formula of the settings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from danlu.tuning.fidelity import Score
from danlu.tuning.plan import SearchPlan
from danlu.tuning.search import Search
from danlu.tuning.space import Choices, Range, SearchSpace
from danlu.tuning.storage import Place, open_storage

SPACE = SearchSpace(
    {
        "training.learning_rate": Range(1e-4, 1e-1, log=True),
        "training.batch_size": Choices((16, 32, 64, 128)),
        "training.optimizer": Choices(("adamw", "sgd")),
    }
)
DEFAULTS = {"training.learning_rate": 3e-3, "training.batch_size": 64, "training.optimizer": "adamw"}


def loss_of(values: dict[str, Any]) -> float:
    """Lowest at a rate of 0.01 and batches of 32."""
    values = {**DEFAULTS, **values}
    off = abs(math.log10(values["training.learning_rate"]) + 2) + abs(math.log2(values["training.batch_size"]) - 5) / 4
    return 0.2 + off + 0.3 * (values["training.optimizer"] == "sgd")


class FakeTrainings:
    """As `Trainings`; `calls` has (settings, share) of every training."""

    def __init__(self, loss: Callable[[dict[str, Any]], float] = loss_of, seconds: float = 0.0) -> None:
        self.loss = loss
        self.seconds = seconds
        self.calls: list[tuple[dict[str, Any], float]] = []

    def config_for(self, values: dict[str, Any]) -> dict[str, Any]:
        return dict(values)

    def words_for(self, values: dict[str, Any], epochs: int) -> dict[str, Any]:
        return values if epochs == 9 else {**values, "training.epochs": epochs}

    def train(self, config: dict[str, Any], share: float, on_epoch: Any = None) -> Score:
        self.calls.append((config, share))
        time.sleep(self.seconds)
        if on_epoch is not None:
            on_epoch(None)
        loss = self.loss(config) / share**0.5
        return Score(loss, 1 / (1 + loss), 1, round(9 * share), 1.0, share, self.seconds)


def plan_of(**values: Any) -> SearchPlan:
    told: dict[str, Any] = {
        "name": "a",
        "data": "digits",
        "content": "0",
        "settings": {},
        "measured": {},
        "defaults": DEFAULTS,
        "space": SPACE,
        "sampler": "tpe",
        "seed": 0,
        "best_by": "validation_loss",
    }
    return SearchPlan(**{**told, **values})


def search_in(folder: Path, trainings: Any = None, **plan: Any) -> Search:
    """A search with its journal in a folder, begun with the defaults."""
    made = plan_of(**plan)
    search = Search(made, open_storage(Place(journal=folder / "journal.log")), trainings or FakeTrainings())
    search.open([(made.defaults, "defaults")])
    return search
