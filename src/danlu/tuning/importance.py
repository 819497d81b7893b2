"""Which settings the score depends on, by PED-ANOVA (Watanabe, Bansal and Hutter, 2023).

Computed on the lowest rung, which nearly every trial has: scores of different rungs are not comparable, and of the
trials that were trained in full there are few, all of them good.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from danlu.base.files import write_json
from danlu.base.studies import FORMAT, Study
from danlu.tuning.plan import SearchPlan, coded, coded_text
from danlu.tuning.search import Tried
from danlu.tuning.space import MODEL, Choices, Range

FEWEST_TRIALS = 10


def write_importance(study: Study, plan: SearchPlan, tried: Sequence[Tried]) -> None:
    """`importance.json`: shares by key that add up to 1; empty where too few trials can tell."""
    write_json(study.importance_file, {"format": FORMAT, "importance": importance_of(plan, tried)})


def importance_of(plan: SearchPlan, tried: Sequence[Tried]) -> dict[str, float]:
    """Shares by key, the largest first."""
    scored = [(one, one.first.value(plan.best_by)) for one in tried if one.first is not None]
    if len(scored) < FEWEST_TRIALS:
        return {}
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    if plan.space.models:
        distributions[MODEL] = optuna.distributions.CategoricalDistribution(list(plan.space.models))
    keys: dict[str, str] = {MODEL: MODEL}
    for model in plan.space.models or (None,):
        for named in plan.space.dimensions(model):
            distributions[named.name] = _distribution(named.dimension)
            keys[named.name] = named.key
    seen = optuna.create_study(direction=plan.direction)
    for one, score in scored:
        params = coded(one.values, plan.space)
        seen.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={name: distributions[name] for name in params},
                value=score,
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = get_param_importances(seen, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError):  # all scores equal, or no parameter that all trials have
            return {}
    shares: dict[str, float] = {}
    for name, share in found.items():
        shares[keys[name]] = shares.get(keys[name], 0.0) + float(share)
    total = sum(shares.values())
    if not total or not math.isfinite(total):
        return {}
    return dict(sorted(((key, share / total) for key, share in shares.items()), key=lambda pair: -pair[1]))


def _distribution(dimension: Range | Choices) -> optuna.distributions.BaseDistribution:
    if isinstance(dimension, Choices):
        if dimension.is_ordered:
            return optuna.distributions.IntDistribution(0, len(dimension.values) - 1)
        return optuna.distributions.CategoricalDistribution([coded_text(value) for value in dimension.values])
    if dimension.whole:
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
