"""What is searched over: ranges and lists of values, by the same keys as settings.

A space file reads

    training.learning_rate: {low: 1.0e-4, high: 3.0e-2, log: true}
    training.batch_size: [32, 64, 128]
    model.dropout: {low: 0.0, high: 0.6}

and what holds for one architecture alone stands below its name, where several are searched:

    model.name: [vgg_cnn, mlp]
    mlp:
      training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danlu.base.config import Config, read_config, read_yaml, unknown_key, yaml_value
from danlu.base.errors import ConfigError
from danlu.base.registry import nearest_names
from danlu.base.settings import Settings
from danlu.data.prepare import PreparedData
from danlu.inputs.images import ImageRecipe
from danlu.models import MODELS
from danlu.models.build import check_options

MODEL = "model.name"
HINT = "a list of values, or `{low: 0.001, high: 0.1, log: true}`; `danlu config show` prints every key"
NOT_COMPARED = {
    "training.seed": "all trials share one seed, so that luck decides as little as it can",
    "training.best_by": "it says what is compared",
    "training.device": "it is where all trials run",
    "training.tensorboard": "trials write nothing",
    "training.deterministic": "it is no part of a recipe",
    **dict.fromkeys(
        ("training.threads", "training.precision", "training.channels_last", "training.compile"),
        "it is measured once, for all trials",
    ),
    "training.gradient_checkpointing": "it changes memory and time, not the result",
}
LEARNING_RATE_FACTOR = 10.0
WEIGHT_DECAY_FACTOR = 30.0
MOST_COMBINATIONS = 10_000
NEAR, STAYS = 0.15, 0.5


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `log`: equal factors are equally likely; `whole`: no fractions."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def holds(self, value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and (not self.whole or value == int(value))

    def near(self, value: float, rng: random.Random) -> float:
        if rng.random() < STAYS:
            return value
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        drawn = (math.log(value) if self.log else value) + rng.gauss(0, NEAR) * (high - low)
        drawn = high - abs(high - low - abs(drawn - low))  # folded back at the ends
        drawn = min(max(float(f"{math.exp(drawn) if self.log else drawn:.4g}"), self.low), self.high)
        return round(drawn) if self.whole else drawn

    def to_yaml(self) -> str:
        low, high = (int(end) if self.whole else float(end) for end in (self.low, self.high))
        return f"{{low: {_plain(low)}, high: {_plain(high)}{', log: true' if self.log else ''}}}"


@dataclass(frozen=True)
class Choices:
    """A few values."""

    values: tuple[Any, ...]

    @property
    def is_ordered(self) -> bool:
        """Rising numbers: what is near in the list is near in effect."""
        numbers = [v for v in self.values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        return len(numbers) == len(self.values) > 2 and numbers == sorted(numbers)

    def holds(self, value: Any) -> bool:
        return any(_same(value, known) for known in self.values)

    def near(self, value: Any, rng: random.Random) -> Any:
        if rng.random() < STAYS:
            return value
        at = self.place(value)
        others = [at - 1, at + 1] if self.is_ordered else range(len(self.values))
        return self.values[
            rng.choice([place for place in others if 0 <= place < len(self.values) and place != at] or [at])
        ]

    def place(self, value: Any) -> int:
        return next(place for place, known in enumerate(self.values) if _same(value, known))

    def to_yaml(self) -> str:
        return "[" + ", ".join(_plain(value) for value in self.values) + "]"


Dimension = Range | Choices


@dataclass(frozen=True)
class Named:
    """A dimension of a trial: the setting's key, and the architecture that it is for alone, if it is."""

    key: str
    dimension: Dimension
    model: str | None = None

    @property
    def name(self) -> str:
        """Under which the search keeps its values."""
        return self.key if self.model is None else f"{self.model}: {self.key}"


@dataclass(frozen=True)
class SearchSpace:
    """Dimensions by key, for all architectures (`common`) and for one alone (`of_model`)."""

    common: dict[str, Dimension]
    of_model: dict[str, dict[str, Dimension]] = field(default_factory=dict)

    @property
    def models(self) -> tuple[str, ...]:
        """The architectures searched over; none where the model is not searched."""
        named = self.common.get(MODEL)
        return tuple(named.values) if isinstance(named, Choices) else ()

    def dimensions(self, model: str | None) -> Iterator[Named]:
        """Those of a trial of this architecture, the name of the architecture left out."""
        own = self.of_model.get(model or "", {})
        for key, dimension in self.common.items():
            if key != MODEL and key not in own:
                yield Named(key, dimension)
        for key, dimension in own.items():
            yield Named(key, dimension, model)

    def keys(self) -> list[str]:
        return list(dict.fromkeys([*self.common, *(key for own in self.of_model.values() for key in own)]))

    def without(self, keys: Iterable[str]) -> SearchSpace:
        gone = set(keys)
        own = {model: _left(dimensions, gone) for model, dimensions in self.of_model.items()}
        return SearchSpace(_left(self.common, gone), {model: left for model, left in own.items() if left})

    def near(self, values: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
        """Settings about as good as these: half of them as they are, the other numbers from a normal distribution
        around them, a seventh of their range wide, the other lists a place beside."""
        model = values.get(MODEL)
        found = {MODEL: model} if model in self.models else {}
        for named in self.dimensions(model):
            if named.key in values and named.dimension.holds(values[named.key]):
                found[named.key] = named.dimension.near(values[named.key], rng)
        return found

    def combinations(self) -> list[dict[str, Any]]:
        """Every combination of values, as settings; for spaces of lists alone."""
        found: list[dict[str, Any]] = []
        for model in self.models or (None,):
            rows: list[dict[str, Any]] = [{} if model is None else {MODEL: model}]
            for named in self.dimensions(model):
                values = named.dimension.values if isinstance(named.dimension, Choices) else ()
                rows = [{**row, named.key: value} for row in rows for value in values]
            found += rows
        return found

    def count(self) -> int:
        """How many combinations there are, without making them."""
        return sum(
            math.prod(len(n.dimension.values) if isinstance(n.dimension, Choices) else 0 for n in self.dimensions(m))
            for m in self.models or (None,)
        )

    def to_yaml(self) -> str:
        lines = [f"{key}: {dimension.to_yaml()}" for key, dimension in self.common.items()]
        for model, own in self.of_model.items():
            lines += [f"{model}:", *(f"  {key}: {dimension.to_yaml()}" for key, dimension in own.items())]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        return {
            "common": {key: _to_json(dimension) for key, dimension in self.common.items()},
            "of_model": {
                model: {key: _to_json(dimension) for key, dimension in own.items()}
                for model, own in self.of_model.items()
            },
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> SearchSpace:
        return cls(
            {key: _from_json(item) for key, item in told["common"].items()},
            {model: {k: _from_json(item) for k, item in own.items()} for model, own in told["of_model"].items()},
        )


def default_space(configs: Sequence[Config], prepared: PreparedData) -> SearchSpace:
    """Ranges around the settings danlu chose; `configs`: one without `auto` for each architecture searched."""
    spaces = {config.settings.model.name: _around(config, prepared) for config in configs}
    first = next(iter(spaces.values()))
    if len(spaces) == 1:
        return SearchSpace(first)
    common = {key: one for key, one in first.items() if all(space.get(key) == one for space in spaces.values())}
    own = {model: {k: d for k, d in space.items() if k not in common} for model, space in spaces.items()}
    return SearchSpace({MODEL: Choices(tuple(spaces)), **common}, own)


def read_space(file: str | Path, config: Config, prepared: PreparedData, *, grid: bool = False) -> SearchSpace:
    """The space of a YAML file, every value typed by the settings it is for.

    `config`: without `auto`; it tells the architecture where the file names none. `grid`: only lists are taken.
    Raises `ConfigError` with all faults at once: unknown keys with the nearest name, wrong types, empty ranges.
    """
    written = "`danlu tune DATA` writes `space.yaml` into its folder, to start from"
    tree = read_yaml(Path(file), written)
    problems: list[tuple[str, str]] = []
    kind = "images" if isinstance(prepared.recipe, ImageRecipe) else "texts"
    raw, own_raw = _sorted_out(tree, problems)
    names = raw.get(MODEL)
    models = [config.settings.model.name]
    if MODEL in raw:
        models = [str(name) for name in names] if isinstance(names, list) else []
        _check_models(names, kind, problems)
    common = {
        key: dimension
        for key, value in raw.items()
        if key != MODEL and (dimension := _dimension(key, value, models, grid, problems)) is not None
    }
    if MODEL in raw:
        common = {MODEL: Choices(tuple(models)), **common}
    own: dict[str, dict[str, Dimension]] = {}
    for model, values in own_raw.items():
        if model not in models:
            problems.append((model, f"`model.name` lists no such architecture; {nearest_names(model, models)}"))
            continue
        found = {key: _dimension(key, value, [model], grid, problems, f"{model}: ") for key, value in values.items()}
        own[model] = {key: dimension for key, dimension in found.items() if dimension is not None}
    if problems:
        raise ConfigError.of_problems(f"`{file}`", problems, hint=HINT)
    if not common and not any(own.values()):
        raise ConfigError(f"`{file}` names nothing to search over", hint=HINT)
    return SearchSpace(common, {model: values for model, values in own.items() if values})


def _around(config: Config, prepared: PreparedData) -> dict[str, Dimension]:
    """What is worth searching for one architecture."""
    training, model = config.settings.training, config.settings.model
    rate, batch = float(training.learning_rate), int(training.batch_size)
    largest = max(batch, len(prepared.parts["train"]) // 4)
    sizes = [size for size in (batch // 4, batch // 2, batch, 2 * batch, 4 * batch) if 4 <= size <= largest]
    found: dict[str, Dimension] = {
        "training.learning_rate": Range(_tidy(rate / LEARNING_RATE_FACTOR), _tidy(rate * LEARNING_RATE_FACTOR), True),
        "training.batch_size": Choices(tuple(sizes)),
    }
    decay = float(training.weight_decay)
    if decay:
        low, high = _tidy(decay / WEIGHT_DECAY_FACTOR), _tidy(decay * WEIGHT_DECAY_FACTOR)
        found["training.weight_decay"] = Range(low, high, True)
    else:
        found["training.weight_decay"] = Choices((0.0, 1e-5, 1e-4, 1e-3))
    if training.loss == "cross_entropy":
        smoothing = float(training.label_smoothing)
        found["training.label_smoothing"] = Range(0.0, max(0.2, _tidy(1.5 * smoothing)))
    options: Any = MODELS.load(model.name).Options
    checked = check_options(model.name, options, model.model_extra or {})
    for name, value in checked.model_dump().items():
        if name.endswith("dropout") and isinstance(value, float):
            found[f"model.{name}"] = Range(0.0, max(0.6, round(min(0.9, value + 0.2), 3)))
    if isinstance(prepared.recipe, ImageRecipe) and model.name != "mlp":
        crop = int(config.settings.augmentation.crop)
        margin = max(1, crop or min(prepared.recipe.height, prepared.recipe.width) // 14)
        found["augmentation.crop"] = Choices((0, margin, 2 * margin))
        found["augmentation.erasing"] = Range(0.0, 0.4)
        if not isinstance(prepared.examples.facts.get("flip"), bool):
            found["augmentation.flip"] = Choices((False, True))
    return found


def _sorted_out(
    tree: Mapping[str, Any], problems: list[tuple[str, str]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Dotted keys with their values, for all architectures and by architecture."""
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, value in tree.items():
        if "." in key:
            common[key] = value
        elif key in Settings.model_fields and isinstance(value, Mapping):
            common |= {f"{key}.{name}": inner for name, inner in value.items()}
        elif key in MODELS and isinstance(value, Mapping):
            own[key] = {}
            for name, inner in value.items():
                if "." not in name:
                    problems.append((f"{key}: {name}", "expected a key with its section, such as `model.dropout`"))
                elif name == MODEL:
                    problems.append((f"{key}: {name}", "stands above, for all architectures"))
                else:
                    own[key][name] = inner
        else:
            known = [*Settings.model_fields, *MODELS.names()]
            problems.append((key, unknown_key(key) or f"expected keys below it; {nearest_names(key, known)}"))
    return common, own


def _check_models(names: Any, kind: str, problems: list[tuple[str, str]]) -> None:
    if not isinstance(names, list) or not names:
        problems.append((MODEL, "expected a list of architectures, such as [vgg_cnn, mlp]"))
        return
    for name in names:
        if name not in MODELS:
            problems.append((MODEL, MODELS.unknown(str(name))))
        elif kind not in MODELS.members[name].kinds:
            problems.append((MODEL, f"`{name}` does not read {kind}; those that do: {', '.join(MODELS.names(kind))}"))


def _dimension(
    key: str, value: Any, models: Sequence[str], grid: bool, problems: list[tuple[str, str]], shown: str = ""
) -> Dimension | None:
    """A checked dimension, or None and what is wrong with it among the problems."""
    before = len(problems)

    def fault(what: str) -> None:
        problems.append((f"{shown}{key}", what))

    if reason := _not_searched(key):
        fault(reason)
    elif isinstance(value, list):
        if not value:
            fault("the list is empty")
        typed = [_typed(key, item, models, fault) for item in value]
        if len(problems) == before:
            return Choices(tuple(typed))
    elif not isinstance(value, Mapping):
        fault(f"expected a list or a range, got {value!r}; what is fixed goes on the command line: `{key}={value}`")
    elif grid:
        fault("a grid takes lists of values, not ranges")
    else:
        return _range(key, value, models, fault)
    return None


def _range(key: str, told: Mapping[str, Any], models: Sequence[str], fault: Any) -> Range | None:
    words = ("low", "high", "log")
    wrong = [name for name in told if name not in words]
    missing = [name for name in ("low", "high") if name not in told]
    if wrong:
        fault(f"a range has no {wrong[0]!r}; {nearest_names(wrong[0], words)}")
    if missing:
        fault(f"a range needs `{missing[0]}`")
    is_log = str(told.get("log", "false")).lower()
    if is_log not in ("true", "false"):
        fault(f"`log` is true or false, got {told['log']!r}")
    if wrong or missing or is_log not in ("true", "false"):
        return None
    numbers: list[float] = []
    for end in ("low", "high"):
        try:
            numbers.append(float(str(told[end])))
        except ValueError:
            fault(f"`{end}` must be a number, got {told[end]!r}")
    if len(numbers) < 2:
        return None
    low, high = numbers
    if not low < high:
        fault(f"`low` must be below `high`, got {told['low']} and {told['high']}")
        return None
    if is_log == "true" and low <= 0:
        fault(f"a range with `log: true` starts above 0, got {told['low']}")
        return None
    seen: list[str] = []
    ends = [_typed(key, told[end], models, seen.append) for end in ("low", "high")]
    if not seen and not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends):
        seen.append("has no numbers; give a list of values")
    for what in seen:
        fault(what)
    if seen:
        return None
    return Range(low, high, is_log == "true", all(isinstance(end, int) for end in ends))


def _not_searched(key: str) -> str | None:
    if unknown := unknown_key(key):
        return unknown
    section = key.partition(".")[0]
    if section not in ("training", "model", "augmentation"):
        return f"section `{section}` is not searched: all trials have the same data"
    return f"is not searched: {NOT_COMPARED[key]}" if key in NOT_COMPARED else None


def _typed(key: str, value: Any, models: Sequence[str], fault: Any) -> Any:
    """The value as the setting or the option of the architecture takes it; a fault where it does not."""
    section, _, name = key.partition(".")
    if value == "auto":
        fault("expected a value to try; `auto` is trial 0")
        return None
    try:
        if section != "model" or name in Settings.model_fields["model"].annotation.model_fields:  # type: ignore[union-attr]
            config = read_config(settings={key: value})
            return getattr(getattr(config.settings, section), name)
        found = None
        for model in models:
            options: Any = MODELS.load(model).Options
            if name not in options.model_fields and len(models) > 1:
                fault(f"is no option of {model}; put it below the architecture it is for")
                return None
            found = getattr(check_options(model, options, {name: value}), name)
        return found
    except ConfigError as error:
        for _, what in error.problems:
            fault(what)
        if not error.problems:
            fault(error.message)
        return None


def _left(dimensions: Mapping[str, Dimension], gone: set[str]) -> dict[str, Dimension]:
    return {key: dimension for key, dimension in dimensions.items() if key not in gone}


def _to_json(dimension: Dimension) -> dict[str, Any]:
    if isinstance(dimension, Choices):
        return {"values": list(dimension.values)}
    return {"low": dimension.low, "high": dimension.high, "log": dimension.log, "whole": dimension.whole}


def _from_json(told: Mapping[str, Any]) -> Dimension:
    return Choices(tuple(told["values"])) if "values" in told else Range(**told)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _tidy(value: float) -> float:
    """Three digits: a space is read and edited by people.

    >>> _tidy(0.00233333)
    0.00233
    """
    return float(f"{value:.3g}")


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value else yaml_value(value)
