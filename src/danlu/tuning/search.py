"""The search as one worker does it: ask for settings, train them rung by rung, tell what came of it.

Trial 0 is danlu's defaults in full. The next few trials, and one in three later, change some settings of the best so
far a little, and are trained as long as it was: shorter trainings cannot tell them apart. Every other trial is trained
at the lowest rung first, from scratch and with a schedule of that length, and goes on while it is among the best third
of those that came so far (asynchronous successive halving: Li et al., 2020); its settings come from the tree-structured
Parzen estimator over all parameters together (Bergstra et al., 2011; Falkner et al., 2018).
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import optuna
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState

from danlu.base.errors import ConfigError, ModelError
from danlu.data.batches import stream_seed
from danlu.training.recorder import EpochRow
from danlu.tuning.fidelity import Rung, Score, Trainings, rungs
from danlu.tuning.owners import DEFAULTS, NEAR, OWNER, REASON, give_back, is_lost, own_mark, reclaim
from danlu.tuning.plan import SearchPlan, Values, coded, suggest
from danlu.tuning.space import SearchSpace

STARTUP_TRIALS = 8
NEAR_FIRST, NEAR_EVERY, NEAR_DRAWS = 3, 3, 20
PLAN = "danlu"
VALUES, RUNG = "values", "rung "
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class TimeUp(Exception):
    """The minutes of a search are over in the midst of a trial."""


@dataclass(frozen=True)
class Budget:
    """`trials` in all; `deadline` in seconds since 1970."""

    trials: int | None = None
    deadline: float | None = None

    def is_over(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline


@dataclass(frozen=True)
class Tried:
    """A trial that has ended. `at`: scores by rung, `first`: that of the lowest; `reason`: why it failed."""

    number: int
    state: str
    values: Values
    at: dict[int, Score]
    first: Score | None
    reason: str | None
    seconds: float
    is_defaults: bool

    @property
    def scores(self) -> tuple[Score, ...]:
        """From the shortest training to the longest."""
        return tuple(self.at.values())

    @property
    def fidelity(self) -> float:
        return self.scores[-1].fidelity if self.scores else 0.0


class Search:
    """One worker of a search. `trainings` may be left out by who only looks. `worker`: its number among several."""

    def __init__(
        self, plan: SearchPlan, storage: BaseStorage, trainings: Trainings | None = None, worker: int | None = None
    ) -> None:
        self.plan = plan
        self.trainings = trainings
        self.worker = worker
        self.mark = own_mark()
        self.ended: dict[int, Tried] = {}
        self.stops_at: tuple[type[Exception], ...] = (TimeUp,)  # what ends a training without a fault of its settings
        self.rungs = rungs(plan.lowest, plan.factor) if plan.sampler != "grid" else rungs(1, plan.factor)
        self.study = optuna.create_study(
            storage=storage,
            study_name=plan.name,
            direction=plan.direction,
            load_if_exists=True,
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=plan.factor),
        )

    def open(self, first: Sequence[tuple[Values, str]]) -> bool:
        """Queue the first trials unless that was done before: (settings, `defaults` where they are these).

        True for a new study. Raises `ConfigError` when the study was begun as another search.
        """
        told = self.study.user_attrs.get(PLAN)
        if told is not None:
            differing = [key for key, value in self.plan.shared().items() if told.get(key) != value]
            if differing:
                raise ConfigError(
                    f"the study `{self.plan.name}` was begun with other {', '.join(differing)}",
                    hint="give it the same settings and space, or another `--name`",
                )
            return False
        for values, what in first:
            attributes = {what: True} if what else {}
            self.study.enqueue_trial(coded(values, self.plan.space), user_attrs=attributes, skip_if_exists=True)
        self.study.set_user_attr(PLAN, self.plan.shared())
        return True

    def run(self, budget: Budget, tell: Callable[[Tried], None] = lambda tried: None) -> None:
        """Try until the budget is used. A signal gives the trial at hand back to the queue, and is raised."""
        while (trial := self._ask(budget)) is not None:
            try:
                with get_heartbeat_thread(trial._trial_id, self.study._storage):
                    self._try(trial, budget)
            except KeyboardInterrupt:
                give_back(self.study, trial)
                raise
            except TimeUp:
                self._end_in_time(trial)
            tried = tried_of(self.study._storage.get_trial(trial._trial_id), self.rungs)
            if tried.state != "lost":
                tell(tried)

    def tried(self) -> list[Tried]:
        """All trials that have ended, in their order."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in self.ended:
                self.ended[trial.number] = tried_of(trial, self.rungs)
        return [self.ended[number] for number in sorted(self.ended)]

    def is_done(self, budget: Budget) -> bool:
        """Whether nothing is left to try or under way."""
        trials = self.study.get_trials(deepcopy=False)
        if any(trial.state == TrialState.RUNNING for trial in trials):
            return False
        return budget.is_over() or not self._is_left(trials, budget)

    def _ask(self, budget: Budget) -> optuna.Trial | None:
        reclaim(self.study)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optuna.storages.fail_stale_trials(self.study)  # of other machines, by their heartbeats in a database
        trials = self.study.get_trials(deepcopy=False)
        if budget.is_over() and any(trial.state == TrialState.COMPLETE for trial in trials):
            return None
        if not self._is_left(trials, budget):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that groups are new, and that heartbeats are for `optimize`
            if self._is_near_due(trials):
                self._enqueue_near(trials)
            self.study.sampler = self._sampler(len(trials))
            trial = self.study.ask()
        trial.set_user_attr(OWNER, self.mark)
        if budget.trials is not None:
            before = [t for t in self.study.get_trials(deepcopy=False) if _counts(t) and t.number < trial.number]
            if len(before) >= budget.trials:  # several workers asked in the same moment
                self.study.tell(trial, state=TrialState.FAIL)
                return None
        return trial

    def _is_left(self, trials: Sequence[FrozenTrial], budget: Budget) -> bool:
        used = sum(map(_counts, trials))
        if budget.trials is not None and used >= budget.trials:
            return False
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        return waiting or self.plan.sampler != "grid"

    def _value(self, scores: Sequence[Score]) -> float:
        """What a trial is worth: its best training on the whole train part, of any length."""
        whole = [score.value(self.plan.best_by) for score in scores if score.data_share == 1]
        if not whole:
            return scores[-1].value(self.plan.best_by)
        return min(whole) if self.plan.direction == "minimize" else max(whole)

    def _is_near_due(self, trials: Sequence[FrozenTrial]) -> bool:
        """The first trials after the defaults, and one in a few later, look near the best so far."""
        if self.plan.sampler != "tpe" or not trials or any(t.state == TrialState.WAITING for t in trials):
            return False
        near = sum(NEAR in trial.user_attrs and not is_lost(trial) for trial in trials)
        return near < NEAR_FIRST or len(trials) % NEAR_EVERY == 0

    def _enqueue_near(self, trials: Sequence[FrozenTrial]) -> None:
        """Queue settings near the best so far, to be trained as long as these were."""
        sign = 1 if self.plan.direction == "minimize" else -1
        known = [
            (sign * score.value(self.plan.best_by), one.values, step)
            for one in self.tried()
            for step, score in one.at.items()
            if score.data_share == 1
        ]
        _, center, step = min(known, key=lambda row: row[0], default=(0.0, self.plan.defaults, self.rungs[-1].step))
        rng = random.Random(stream_seed(self.plan.seed, len(trials), f"near {self.worker or 0}"))  # noqa: S311
        drawn = (self.plan.space.near(center, rng) for _ in range(NEAR_DRAWS))
        near = next((values for values in drawn if any(values[key] != center[key] for key in values)), None)
        if near is not None:
            self.study.enqueue_trial(coded(near, self.plan.space), user_attrs={NEAR: step})

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Made anew for each trial, so that a resumed search draws what it would have drawn."""
        seed = stream_seed(self.plan.seed, number, f"trial {self.worker or 0}") % 2**32
        if self.plan.sampler != "tpe":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True, seed=seed, constant_liar=True
        )

    def _try(self, trial: optuna.Trial, budget: Budget) -> None:
        """Train a trial rung by rung and tell its end."""
        is_defaults = bool(trial.user_attrs.get(DEFAULTS))
        values = self._defaults(trial) if is_defaults else suggest(trial, self.plan.space)
        trial.set_user_attr(VALUES, self.plan.defaults if is_defaults else values)
        # Settings near the best are close to each other: shorter trainings cannot tell them apart (docs/LOG.md).
        length = trial.user_attrs.get(NEAR)
        steps = [rung for rung in self.rungs if length in (None, rung.step)]
        # The defaults in full first, for whoever waits for them; then what others are compared with at lower rungs.
        known = {} if not is_defaults else self._all_scores(trial, steps)
        if isinstance(known, str):
            self._fail(trial, known)
            return
        scores: list[Score] = []
        for rung in steps:
            score = known.get(rung.step) or self._train(trial, values, rung, budget)
            if isinstance(score, str):
                self._fail(trial, score)
                return
            trial.set_user_attr(f"{RUNG}{rung.step}", asdict(score))
            trial.report(score.value(self.plan.best_by), rung.step)
            scores.append(score)
            if rung is steps[-1]:
                self.study.tell(trial, self._value(scores))
            elif trial.should_prune() and not is_defaults:
                self.study.tell(trial, state=TrialState.PRUNED)
                return

    def _all_scores(self, trial: optuna.Trial, steps: Sequence[Rung]) -> dict[int, Score] | str:
        """The scores of the defaults at every rung, the longest first, or why there is one without."""
        scores: dict[int, Score] = {}
        for rung in reversed(steps):
            score = self._train(trial, {}, rung, None)
            if isinstance(score, str):
                return score
            scores[rung.step] = score
        return scores

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def _train(self, trial: optuna.Trial, values: Values, rung: Rung, budget: Budget | None) -> Score | str:
        """The score of a rung, or why there is none."""
        if self.trainings is None:
            raise ValueError("this search only looks")

        def on_epoch(row: EpochRow) -> None:
            if budget is not None and budget.is_over():
                raise TimeUp

        try:
            score = self.trainings.train(self.trainings.config_for(values), rung.share, on_epoch)
            if not math.isfinite(score.value(self.plan.best_by)):
                raise ModelError("the validation loss is not a number")
        except self.stops_at:
            raise
        except Exception as error:  # whatever these settings do, others may do better
            first = str(getattr(error, "message", error)).partition("\n")[0]
            return f"{type(error).__name__}: {first}"[:300]
        return score

    def _defaults(self, trial: optuna.Trial) -> Values:
        """Trial 0 sets nothing: it is what `danlu train` does. Its place in the space is noted for the sampler."""
        suggest(trial, self._held(trial))
        return {}

    def _held(self, trial: optuna.Trial) -> SearchSpace:
        """The part of the space in which the defaults have a place."""
        there = set(self.study._storage.get_trial(trial._trial_id).system_attrs.get("fixed_params", {}))
        space = self.plan.space
        common = {key: dimension for key, dimension in space.common.items() if key in there}
        own = {
            model: {key: dimension for key, dimension in dimensions.items() if f"{model}: {key}" in there}
            for model, dimensions in space.of_model.items()
        }
        return SearchSpace(common, own)

    def _end_in_time(self, trial: optuna.Trial) -> None:
        frozen = self.study._storage.get_trial(trial._trial_id)
        if frozen.intermediate_values:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, state=TrialState.FAIL)


def tried_of(trial: FrozenTrial, steps: Sequence[Rung]) -> Tried:
    """A trial as rows and pages show it."""
    told = trial.user_attrs
    at = {rung.step: Score(**told[f"{RUNG}{rung.step}"]) for rung in steps if f"{RUNG}{rung.step}" in told}
    state = "lost" if is_lost(trial) else trial.state.name.lower().replace("fail", "failed")
    return Tried(
        number=trial.number,
        state=state,
        values=dict(told.get(VALUES, {})),
        at=at,
        first=at.get(steps[0].step),
        reason=told.get(REASON),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        is_defaults=bool(told.get(DEFAULTS)),
    )


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in COUNTED or (trial.state == TrialState.FAIL and not is_lost(trial))
