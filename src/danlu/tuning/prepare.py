"""What a search starts from: data read once, a space, settings measured once, and the trials to begin with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base import log
from danlu.base.config import Config, read_config
from danlu.base.errors import ConfigError
from danlu.data.kept_split import keep_split
from danlu.models import MODELS
from danlu.training.assemble import build_batches, choose_device, first_model, measured_choices
from danlu.training.start import Plan, describe_model, plan_training, readable_value, resolve
from danlu.tuning.fidelity import Trainings
from danlu.tuning.owners import DEFAULTS
from danlu.tuning.plan import SAMPLERS, SearchPlan, SearchSettings, Values, is_list_space
from danlu.tuning.space import MODEL, MOST_COMBINATIONS, SearchSpace, default_space, read_space

MEASURED = ("training.threads", "training.channels_last", "training.precision", "training.compile")
First = list[tuple[Values, str]]


@dataclass(frozen=True)
class Prepared:
    """A search that can begin: its plan, trainings on data in memory, the first trials, and the defaults."""

    plan: SearchPlan
    trainings: Trainings
    first: First
    start: Plan


def check_search(search: SearchSettings) -> None:
    """All that is wrong with how to search, before any data is read."""
    problems: list[tuple[str, str]] = []
    if search.trials is not None and search.trials < 1:
        problems.append(("--trials", f"expected a whole number of at least 1, got {search.trials}"))
    if search.minutes is not None and not search.minutes > 0:
        problems.append(("--minutes", f"expected a number above 0, got {search.minutes}"))
    if search.workers < 1:
        problems.append(("--workers", f"expected a whole number of at least 1, got {search.workers}"))
    if search.sampler not in SAMPLERS:
        problems.append(("--sampler", f"expected one of {', '.join(SAMPLERS)}, got {search.sampler!r}"))
    if search.grid and search.space:
        problems.append(("--grid", "is a space itself; leave `--space` out"))
    if search.grid and search.trials is not None:
        problems.append(("--trials", "a grid has its own number of trials; leave it out, or give `--minutes`"))
    if search.sampler == "grid" and not (search.grid or search.space):
        problems.append(("--sampler", "a grid needs lists of values: `--grid FILE`"))
    if search.models and (search.space or search.grid):
        problems.append(("--models", "a space file names its architectures itself: `model.name: [a, b]`"))
    unknown = [name for name in search.models if name not in MODELS]
    problems += [("--models", MODELS.unknown(name)) for name in unknown]
    if problems:
        raise ConfigError.of_problems("how to search", problems, hint="`danlu tune --help` shows all options")


def prepare_search(data: str | Path, checked: Config, search: SearchSettings, name: str) -> Prepared:
    """Read the data, make or read the space, and measure this machine once for all trials."""
    named = checked.settings.model.name
    if search.models and named != "auto":
        raise ConfigError(
            f"`--models` searches over architectures, and `model.name={named}` fixes one", hint="leave one of them out"
        )
    start = plan_training(data, checked)
    keep_split(data, checked.settings.data, start.prepared.manifest)
    asked = asked_settings(checked)
    space = _space(start, asked, search)
    sampler = "grid" if search.grid else search.sampler
    defaults = _defaults(start.config, space)
    measured = measure(start, search.workers)
    plan = SearchPlan(
        name=name,
        data=str(Path(data).resolve()) if Path(data).exists() else str(data),
        content=content_of(start),
        settings=asked,
        measured=measured,
        defaults=defaults,
        space=space,
        sampler=sampler,
        seed=checked.settings.training.seed,
        best_by=checked.settings.training.best_by,
        lowest=lowest_share(int(start.config.settings.training.epochs)),
    )
    trainings = Trainings(checked, start.prepared, measured)
    return Prepared(plan, trainings, first_trials(plan, start, trainings), start)


def prepare_again(plan: SearchPlan) -> Prepared:
    """A search that was begun: its data is read again, by this process; what was chosen and measured stays."""
    checked = read_config(settings=plan.settings)
    with log.silence():
        start = plan_training(plan.data, checked)
    if content_of(start) != plan.content:
        raise ConfigError(
            f"the data `{plan.data}` is not what it was when the study `{plan.name}` began",
            hint="start another study: scores on other examples do not compare",
        )
    trainings = Trainings(checked, start.prepared, plan.measured)
    return Prepared(plan, trainings, first_trials(plan, start, trainings), start)


def content_of(start: Plan) -> str:
    """A hash of the examples and their parts, whatever their order and place."""
    rows = sorted(f"{row.part} {row.sha256}" for row in start.prepared.manifest)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def lowest_share(full_epochs: int) -> float:
    """Of the first training of a trial: a ninth where that is two epochs, else a third. In less than that the rate at
    which settings learn is all that shows.

    >>> round(lowest_share(20), 3), round(lowest_share(6), 3)
    (0.111, 0.333)
    """
    return 1 / 9 if full_epochs >= 18 else 1 / 3


def asked_settings(config: Config) -> Values:
    """What the user set, by key."""
    return {key: value for key, value, _ in config.rows() if key in config.origins}


def measure(start: Plan, workers: int) -> Values:
    """Threads, memory order and precision, measured once on the default model for all trials."""
    config, prepared = start.config, start.prepared
    device = choose_device(config.settings.training.device)
    chosen: dict[str, tuple[Any, str]] = {}
    if config.settings.training.compile == "auto":
        chosen["training.compile"] = (False, "every trial would have to compile anew")
        config = config.with_chosen(chosen)
    description = describe_model(config, prepared)
    model = first_model(config, prepared, description["options"]).to(device)
    batches, _ = build_batches(config, prepared, device)
    chosen |= measured_choices(config, description, model, batches, workers)
    for key, (value, reason) in chosen.items():
        log.say(f"  {key}={readable_value(value)}   {reason}")
    settings = config.with_chosen(chosen).settings.training
    return {key: getattr(settings, key.partition(".")[2]) for key in MEASURED}


def _space(start: Plan, asked: Mapping[str, Any], search: SearchSettings) -> SearchSpace:
    file = search.grid or search.space
    if file is not None:
        space = read_space(file, start.config, start.prepared, grid=search.grid is not None)
    else:
        space = default_space(_configs(start, asked, search.models), start.prepared)
    fixed = [key for key in space.keys() if key in asked]  # noqa: SIM118 (a method of ours)
    if fixed:
        log.say(f"not searched, since you set it: {', '.join(fixed)}")
        space = space.without(fixed)
    if not space.keys():
        raise ConfigError("nothing is left to search over", hint="set fewer keys, or add others to the space file")
    if search.sampler == "grid" and not is_list_space(space):
        raise ConfigError(f"`{file}` holds ranges, and a grid takes lists of values", hint="`--sampler tpe` takes both")
    if search.grid or search.sampler == "grid":
        count = space.count()
        log.say(f"grid: {count:,} combinations")
        if count > MOST_COMBINATIONS:
            raise ConfigError(
                f"`{file}` has {count:,} combinations, more than {MOST_COMBINATIONS:,}",
                hint="shorten its lists, or search it: `--space` in place of `--grid`",
            )
    return space


def _configs(start: Plan, asked: Mapping[str, Any], models: Sequence[str]) -> list[Config]:
    """Settings without `auto` for each architecture; danlu's own where none is named."""
    if not models:
        return [start.config]
    return [resolve(read_config(settings={**asked, MODEL: model}), start.prepared) for model in models]


def _defaults(config: Config, space: SearchSpace) -> Values:
    """danlu's values of what is searched."""
    rows = {key: value for key, value, _ in config.rows()}
    options = describe_options(config)
    return {key: rows.get(key, options.get(key)) for key in space.keys()}  # noqa: SIM118


def describe_options(config: Config) -> Values:
    """Every option of the model, with those left at the architecture's own values."""
    model = config.settings.model
    options: Any = MODELS.load(model.name).Options
    own = {name: value for name, value in (model.model_extra or {}).items() if name in options.model_fields}
    return {f"model.{name}": value for name, value in options.model_validate(own).model_dump().items()}


def first_trials(plan: SearchPlan, start: Plan, trainings: Trainings) -> First:
    """The defaults; then every combination of a grid, or the recipes of the other architectures."""
    first: First = [(plan.defaults, DEFAULTS)]
    if plan.sampler == "grid":
        return first + [(row, "") for row in plan.space.combinations() if row != plan.defaults]
    for model in plan.space.models:
        if model != start.config.settings.model.name:
            config = trainings.config_for({MODEL: model})
            first.append(({MODEL: model, **_defaults(config, plan.space)}, ""))
    return first
