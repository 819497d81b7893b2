"""What a search says and leaves on disk: a line a trial, the table of trials, the best settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from danlu.base import log
from danlu.base.config import words_of, yaml_value
from danlu.base.files import write_csv, write_text
from danlu.base.log import pasted
from danlu.base.studies import Study
from danlu.training.recorder import readable_seconds
from danlu.training.start import readable_value
from danlu.tuning.fidelity import Score, Trainings
from danlu.tuning.plan import SearchPlan, Values, settings_tree
from danlu.tuning.search import Tried

COLUMNS = (
    "number",
    "state",
    "defaults",
    "fidelity",
    "score",
    "validation_loss",
    "validation_accuracy",
    "epochs",
    "first_score",
    "best_score",
    "seconds",
    "reason",
)


@dataclass(frozen=True)
class Best:
    """The best training of a search: of which trial, with which settings on top of what the user set."""

    number: int
    score: Score
    settings: Values
    is_defaults: bool


def line_of(tried: Tried, plan: SearchPlan, best: Best | None) -> str:
    """`trial 7   validation loss 0.2531   pruned at 0.11 of the full training   2.1 s   best 0.2412   …`"""
    parts = [f"trial {tried.number:<3}"]
    if tried.scores:
        told = f"{plan.score_name} {plan.shown(tried.scores[-1].value(plan.best_by))}"
        length = f"{'' if tried.state == 'complete' else 'stopped '}at {tried.fidelity:.2f} of the budget"
        parts += [told, "in full" if tried.fidelity > 0.999 else length]
    if tried.reason:
        parts.append(f"failed: {tried.reason}")
    parts.append(readable_seconds(tried.seconds))
    if best is not None:
        told = plan.shown(best.score.value(plan.best_by))
        parts.append("best so far" if best.number == tried.number else f"best {told} (trial {best.number})")
    parts.append(
        "danlu's defaults"
        if tried.is_defaults
        else told_values(changed(tried.values, plan.defaults)) or "as the defaults"
    )
    return "   ".join(parts)


def changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Values:
    """Those that differ from the defaults."""
    return {key: value for key, value in values.items() if key not in defaults or defaults[key] != value}


def told_values(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key.partition('.')[2]}={readable_value(value)}" for key, value in values.items())


def find_best(tried: Iterable[Tried], plan: SearchPlan, trainings: Trainings) -> Best | None:
    """The best training on the whole train part, of any length; None while there is none.

    A shorter training that is better is the better recipe, and `training.epochs` is then one of its settings.
    """
    best: tuple[float, Tried, Score] | None = None
    for one in tried:
        for score in one.scores:
            value = score.value(plan.best_by)
            if score.data_share == 1 and (best is None or plan.is_better(value, best[0])):
                best = (value, one, score)
    if best is None:
        return None
    _, one, score = best
    values = {} if one.is_defaults else one.values
    return Best(one.number, score, trainings.words_for(values, score.epochs), one.is_defaults)


def write_trials(study: Study, plan: SearchPlan, tried: Sequence[Tried]) -> None:
    """`trials.csv`: one row a trial, with the settings it tried. `score`, loss, accuracy and epochs are those of its
    last training; `first_score`: at the lowest rung; `best_score`: of those on the whole train part.
    """
    keys = plan.space.keys()
    rows = []
    for one in tried:
        told: dict[str, Any] = {
            "number": one.number,
            "state": one.state,
            "defaults": str(one.is_defaults).lower(),
            "fidelity": round(one.fidelity, 4),
            "seconds": round(one.seconds, 3),
            "reason": one.reason or "",
        }
        if one.scores:
            last = one.scores[-1]
            told["score"] = last.value(plan.best_by)
            told |= {"validation_loss": last.loss, "validation_accuracy": last.accuracy, "epochs": last.epochs}
            if one.first is not None:
                told["first_score"] = one.first.value(plan.best_by)
            whole = [score.value(plan.best_by) for score in one.scores if score.data_share == 1]
            if whole:
                told["best_score"] = min(whole) if plan.direction == "minimize" else max(whole)
        told |= {key: readable_value(one.values[key]) for key in keys if key in one.values}
        rows.append([told.get(name, "") for name in (*COLUMNS, *keys)])
    write_csv(study.trials_file, (*COLUMNS, *keys), rows)


def write_best(study: Study, plan: SearchPlan, best: Best, gain: str) -> None:
    """`best.yaml`, for `danlu train DATA --config best.yaml`."""
    lines = [f"# trial {best.number} of the study {study.name}: {gain}"]
    for section, values in settings_tree({**plan.settings, **best.settings}).items():
        lines += [f"{section}:", *(f"  {name}: {yaml_value(value)}" for name, value in values.items())]
    write_text(study.best_file, "\n".join(lines) + "\n")


def command_of(data: str, plan: SearchPlan, best: Best) -> str:
    """The command that trains the winner."""
    words = ["danlu", "train", data, *words_of({**plan.settings, **best.settings})]
    return " ".join(map(pasted, words))


def gain_told(plan: SearchPlan, best: Best, defaults: Tried | None) -> str:
    """How much better the winner is than the defaults, on the validation part."""
    value = best.score.value(plan.best_by)
    told = f"{plan.score_name} {plan.shown(value)}"
    if defaults is None or not defaults.scores:
        return f"{told} (the defaults have no score)"
    before = defaults.scores[-1].value(plan.best_by)
    if best.is_defaults and best.score == defaults.scores[-1]:
        return f"{told}, that of danlu's defaults: nothing tried is better"
    how = f"{(before - value) / before:.1%} lower" if plan.direction == "minimize" and before else ""
    if plan.direction == "maximize":
        how = f"{100 * (value - before):+.2f} points"
    return f"{told}, and {plan.shown(before)} with danlu's defaults ({how})"


def say_space(plan: SearchPlan) -> None:
    log.say("searched (`space.yaml` in the study's folder; edit it and give it back with `--space`):")
    for line in plan.space.to_yaml().splitlines():
        key = line.strip().partition(":")[0]
        default = plan.defaults.get(key)
        log.say(f"  {line}" + ("" if default is None else f"   default {readable_value(default)}"))
