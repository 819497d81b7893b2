"""The search as one worker does it, with trainings that take no time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import DEFAULTS, SPACE, FakeTrainings, loss_of, search_in
from optuna.trial import TrialState

from danlu.base.errors import ConfigError, ModelError
from danlu.tuning.owners import OWNER, is_gone, own_mark, reclaim
from danlu.tuning.search import Budget, Tried
from danlu.tuning.telling import find_best


def test_trial_0_is_the_defaults_in_full(tmp_path: Path) -> None:
    trainings = FakeTrainings()
    search = search_in(tmp_path, trainings)
    search.run(Budget(trials=1))
    assert trainings.calls == [({}, 1), ({}, 1 / 3), ({}, 1 / 9)]
    assert search.tried()[0].is_defaults
    assert search.tried()[0].values == DEFAULTS


def test_search_never_ends_worse_than_the_defaults(tmp_path: Path) -> None:
    trainings = FakeTrainings(lambda values: 0.1 if not values else 1.0)
    search = search_in(tmp_path, trainings)
    search.run(Budget(trials=8))
    best = find_best(search.tried(), search.plan, trainings)  # type: ignore[arg-type]
    assert best is not None
    assert best.is_defaults


def values_of(tried: list[Tried]) -> list[tuple[Any, ...]]:
    return [(one.number, one.state, tuple(one.values.items()), one.fidelity) for one in tried]


def test_same_seed_gives_the_same_trials(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        search = search_in(tmp_path / name)
        search.run(Budget(trials=14))
        found.append(values_of(search.tried()))
    assert found[0] == found[1]


def test_another_seed_gives_other_trials(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        search = search_in(tmp_path / str(seed), seed=seed)
        search.run(Budget(trials=3))
        found.append(values_of(search.tried())[1:])
    assert found[0] != found[1]


def test_resumed_search_tries_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = search_in(tmp_path / "whole")
    whole.run(Budget(trials=14))
    for trials in (3, 11, 14):
        parts = search_in(tmp_path / "parts")
        parts.run(Budget(trials=trials))
    assert values_of(parts.tried()) == values_of(whole.tried())


def test_first_trials_after_the_defaults_look_near_the_best_in_full(tmp_path: Path) -> None:
    trainings = FakeTrainings()
    search = search_in(tmp_path, trainings)
    search.run(Budget(trials=4))
    tried = search.tried()
    assert trainings.calls[3:] == [(one.values, 1) for one in tried[1:]]
    assert all(one.first is None for one in tried[1:])
    best = DEFAULTS
    for one in tried[1:]:
        assert (
            one.values["training.optimizer"] == best["training.optimizer"] or one.values["training.optimizer"] == "sgd"
        )
        assert 0.1 < one.values["training.learning_rate"] / best["training.learning_rate"] < 10
        best = min([best, one.values], key=loss_of)


def test_later_trials_look_near_the_best_now_and_then(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    search.run(Budget(trials=31))
    later = [one.number for one in search.tried()[4:] if one.first is None]
    assert later == list(range(6, 31, 3))


def test_trials_near_a_short_training_are_as_short(tmp_path: Path) -> None:
    class Shrinking(FakeTrainings):
        def train(self, config: Any, share: float, on_epoch: Any = None) -> Any:
            score = super().train(config, share, on_epoch)
            return type(score)(**{**vars(score), "loss": share + loss_of(config)})

    trainings = Shrinking()
    search_in(tmp_path, trainings).run(Budget(trials=3))
    assert [share for _, share in trainings.calls[3:]] == [1 / 9, 1 / 9]


def test_near_settings_lie_in_the_space_and_around_the_defaults() -> None:
    rng = random.Random(0)
    drawn = [SPACE.near(DEFAULTS, rng) for _ in range(300)]
    assert all(SPACE.common[key].holds(value) for values in drawn for key, value in values.items())
    rates = sorted(values["training.learning_rate"] for values in drawn)
    assert 2e-3 < rates[150] < 4.5e-3
    assert rates[30] > 6e-4
    assert {values["training.batch_size"] for values in drawn} == {32, 64, 128}


def test_poor_trials_are_stopped_early(tmp_path: Path) -> None:
    trainings = FakeTrainings()
    search = search_in(tmp_path, trainings, sampler="random")
    search.run(Budget(trials=30))
    shares = [share for _, share in trainings.calls]
    assert shares.count(1 / 9) == 30
    assert shares.count(1) < 12
    assert any(one.state == "pruned" for one in search.tried())


def test_search_finds_what_the_defaults_miss(tmp_path: Path) -> None:
    trainings = FakeTrainings()
    search = search_in(tmp_path, trainings)
    search.run(Budget(trials=40))
    best = find_best(search.tried(), search.plan, trainings)  # type: ignore[arg-type]
    assert best is not None
    assert best.score.loss < loss_of({}) - 0.3


def test_random_search_has_rungs_too(tmp_path: Path) -> None:
    search = search_in(tmp_path, sampler="random")
    search.run(Budget(trials=10))
    assert any(one.state == "pruned" for one in search.tried())


def test_accuracy_is_searched_upwards(tmp_path: Path) -> None:
    trainings = FakeTrainings()
    search = search_in(tmp_path, trainings, best_by="validation_accuracy")
    search.run(Budget(trials=30))
    best = find_best(search.tried(), search.plan, trainings)  # type: ignore[arg-type]
    assert best is not None
    assert best.score.accuracy == max(score.accuracy for one in search.tried() for score in one.scores)


def test_minutes_stop_the_search(tmp_path: Path) -> None:
    search = search_in(tmp_path, FakeTrainings(seconds=0.02))
    started = time.time()
    search.run(Budget(deadline=started + 0.5))
    assert 0.4 < time.time() - started < 1.5
    assert len(search.tried()) > 3


def test_defaults_end_even_when_the_time_is_up(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    search.run(Budget(deadline=time.time() - 1))
    assert [one.state for one in search.tried()] == ["complete"]


def test_failing_trial_is_told_with_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    def loss(values: dict[str, Any]) -> float:
        if values.get("training.optimizer") == "sgd":
            raise ModelError("the training loss became NaN in epoch 1, step 3", hint="lower it")
        return 1.0

    search = search_in(tmp_path, FakeTrainings(loss))
    search.run(Budget(trials=12))
    failed = [one for one in search.tried() if one.state == "failed"]
    assert len(search.tried()) == 12
    assert failed
    assert failed[0].reason == "ModelError: the training loss became NaN in epoch 1, step 3"


def test_validation_loss_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    search = search_in(tmp_path, FakeTrainings(lambda values: float("nan") if values else 1.0))
    search.run(Budget(trials=2))
    assert search.tried()[1].reason == "ModelError: the validation loss is not a number"


def test_interrupted_trial_is_queued_again_and_does_not_count(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def loss(values: dict[str, Any]) -> float:
        seen.append(values)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return loss_of(values)

    search = search_in(tmp_path, FakeTrainings(loss))
    with pytest.raises(KeyboardInterrupt):
        search.run(Budget(trials=6))
    again = search_in(tmp_path)
    again.run(Budget(trials=6))
    states = [one.state for one in again.tried()]
    assert states.count("lost") == 1
    assert len(states) == 7
    lost = next(one for one in again.tried() if one.state == "lost")
    assert any(one.values == lost.values and one.number > lost.number for one in again.tried())


def test_interrupted_defaults_are_still_the_defaults(tmp_path: Path) -> None:
    def loss(values: dict[str, Any]) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path, FakeTrainings(loss)).run(Budget(trials=2))
    again = search_in(tmp_path)
    again.run(Budget(trials=2))
    assert [one.is_defaults for one in again.tried() if one.state == "complete"][:1] == [True]


def test_trial_of_a_process_that_is_gone_is_queued_again(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    search.run(Budget(trials=2))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    trial = search.study.ask()
    trial.suggest_float("training.learning_rate", 1e-4, 1e-1, log=True)
    trial.set_user_attr(OWNER, {**own_mark(), "process": process.pid})
    assert reclaim(search.study) == [trial.number]
    search.run(Budget(trials=4))
    assert [one.number for one in search.tried() if one.state != "lost"] == [0, 1, 3, 4]


def test_trial_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    trial = search.study.ask()
    trial.set_user_attr(OWNER, own_mark())
    assert reclaim(search.study) == []


def test_process_of_the_same_number_that_started_later_is_another() -> None:
    assert not is_gone(own_mark())
    if os.path.exists("/proc/self/stat"):
        assert is_gone({**own_mark(), "started": "1"})


def test_of_another_machine_nothing_is_known() -> None:
    assert not is_gone({"host": "elsewhere", "process": 1, "started": "1"})


def test_trial_asked_for_beyond_the_budget_is_given_up(tmp_path: Path) -> None:
    first, second = search_in(tmp_path), search_in(tmp_path)
    first.run(Budget(trials=2))
    ask = second.study.ask
    second.study.ask = lambda: (first.run(Budget(trials=3)), ask())[1]  # type: ignore[method-assign,assignment]
    second.run(Budget(trials=3))
    assert sum(one.state != "lost" for one in second.tried()) == 3


def test_defaults_outside_the_space_are_tried_all_the_same(tmp_path: Path) -> None:
    defaults = {**DEFAULTS, "training.learning_rate": 5.0, "training.optimizer": "muon"}
    search = search_in(tmp_path, defaults=defaults)
    search.run(Budget(trials=12))
    assert search.tried()[0].values["training.learning_rate"] == 5.0
    assert all("training.learning_rate" in one.values for one in search.tried())


def test_numbers_have_four_digits(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    search.run(Budget(trials=10))
    rates = [one.values["training.learning_rate"] for one in search.tried()]
    assert all(rate == float(f"{rate:.4g}") for rate in rates)
    assert all(SPACE.common["training.learning_rate"].holds(rate) for rate in rates)


def test_study_begun_as_another_search_is_refused(tmp_path: Path) -> None:
    search_in(tmp_path)
    with pytest.raises(ConfigError, match="begun with other sampler"):
        search_in(tmp_path, sampler="random")


def test_shorter_training_that_is_better_is_found_with_its_length(tmp_path: Path) -> None:
    search = search_in(tmp_path)

    class Shrinking(FakeTrainings):
        def train(self, config: Any, share: float, on_epoch: Any = None) -> Any:
            score = super().train(config, share, on_epoch)
            return type(score)(**{**vars(score), "loss": share + loss_of(config)})

    trainings = Shrinking()
    search.trainings = trainings  # type: ignore[assignment]
    search.run(Budget(trials=3))
    best = find_best(search.tried(), search.plan, trainings)  # type: ignore[arg-type]
    assert best is not None
    assert best.settings["training.epochs"] == 1


def test_waiting_and_running_trials_are_no_results(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    assert search.study.get_trials(states=(TrialState.WAITING,))
    assert search.tried() == []
