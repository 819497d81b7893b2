"""What a search is: the data and settings it started from, the space, the rungs, and how values become a trial's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from danlu.tuning.space import MODEL, Choices, Dimension, Range, SearchSpace

if TYPE_CHECKING:
    import optuna

FORMAT = 1
SAMPLERS = ("tpe", "random", "grid")
FACTOR = 3
LOWEST_SHARE = 1 / 9
Values = dict[str, Any]


@dataclass(frozen=True)
class SearchSettings:
    """How to search. `trials` or `minutes`: when to stop, whichever comes first; 50 trials where neither is given.

    `workers`: processes on this machine. `storage`: a PostgreSQL URL for several machines; default: a journal in the
    study's folder. `space`, `grid`: YAML files. `models`: architectures to search over, for the space danlu makes.
    """

    trials: int | None = None
    minutes: float | None = None
    workers: int = 1
    storage: str | None = None
    sampler: str = "tpe"
    space: str | None = None
    grid: str | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchPlan:
    """What all workers of a search share. `settings`: what the user set; `measured`: what was measured once;
    `defaults`: danlu's own values of what is searched; `content`: a hash of the examples and their parts.

    `lowest`: the share of the full budget of a trial's first training, `factor` between the next ones.
    """

    name: str
    data: str
    content: str
    settings: Values
    measured: Values
    defaults: Values
    space: SearchSpace
    sampler: str
    seed: int
    best_by: str
    lowest: float = LOWEST_SHARE
    factor: int = FACTOR

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        return "minimize" if self.best_by == "validation_loss" else "maximize"

    @property
    def score_name(self) -> str:
        return self.best_by.replace("_", " ")

    def is_better(self, one: float, other: float) -> bool:
        return one < other if self.direction == "minimize" else one > other

    def shown(self, score: float) -> str:
        return f"{score:.4f}" if self.direction == "minimize" else f"{score:.2%}"

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **vars(self), "space": self.space.to_json()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> SearchPlan:
        values = {key: value for key, value in told.items() if key != "format"}
        return cls(**{**values, "space": SearchSpace.from_json(told["space"])})

    def shared(self) -> dict[str, Any]:
        """What has to be the same on every machine that works on the study."""
        own = ("name", "data", "measured")
        shared: dict[str, Any] = json.loads(json.dumps({k: v for k, v in self.to_json().items() if k not in own}))
        return shared


def suggest(trial: optuna.Trial, space: SearchSpace) -> Values:
    """A trial's settings by key, numbers with four digits, so that what is printed is what was tried."""
    values: Values = {}
    if space.models:
        values[MODEL] = trial.suggest_categorical(MODEL, list(space.models))
    for named in space.dimensions(values.get(MODEL)):
        values[named.key] = _suggested(trial, named.name, named.dimension)
    return values


def coded(values: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Settings as the search keeps them; those the space does not hold are left out."""
    found: dict[str, Any] = {}
    model = values.get(MODEL)
    if model in space.models:
        found[MODEL] = model
    for named in space.dimensions(model):
        if named.key in values and named.dimension.holds(value := values[named.key]):
            found[named.name] = _coded(value, named.dimension)
    return found


def settings_tree(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """
    >>> settings_tree({"training.epochs": 3, "model.name": "mlp"})
    {'training': {'epochs': 3}, 'model': {'name': 'mlp'}}
    """
    tree: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    return tree


def _suggested(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Range):
        if dimension.whole:
            return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
        value = trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        return min(max(float(f"{value:.4g}"), dimension.low), dimension.high)
    if dimension.is_ordered:
        return dimension.values[trial.suggest_int(name, 0, len(dimension.values) - 1)]
    texts = [coded_text(value) for value in dimension.values]
    return dimension.values[texts.index(trial.suggest_categorical(name, texts))]


def _coded(value: Any, dimension: Dimension) -> Any:
    if isinstance(dimension, Range):
        return int(value) if dimension.whole else float(value)
    return dimension.place(value) if dimension.is_ordered else coded_text(value)


def coded_text(value: Any) -> str:
    """A value of a list as the search keeps it."""
    return value if isinstance(value, str) else json.dumps(value)


def is_list_space(space: SearchSpace) -> bool:
    """Whether every dimension is a list of values."""
    every = [*space.common.values(), *(d for own in space.of_model.values() for d in own.values())]
    return all(isinstance(dimension, Choices) for dimension in every)
