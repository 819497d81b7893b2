"""Time to a validation loss: danlu's search against random search and Optuna's tutorial set-up; the tuner's own time.

The score to reach is the best that 50 random full-length trials of the same seed found, and random search needs as long
as it took to find it. A score counts at the epoch at which it was seen, whatever the length of that training: a model
that reached it is a model that reached it. All competitors have the same process, data in memory, space, training code
and training seed; the seed of a round is the sampler's. Reading the data is in nobody's time.

What trial 0 gives is shown apart: Optuna with danlu's defaults queued first, and danlu without them.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import report

TRIALS = 50
DATA = {"digits": "digits", "waimai": "waimai_10k.csv"}
RANDOM, TUTORIAL, DANLU = "random, full length", "Optuna TPE + MedianPruner", "danlu"
SEEDED, BARE = "Optuna TPE + MedianPruner, danlu's defaults first", "danlu, without the defaults"
COMPETITORS = (RANDOM, TUTORIAL, SEEDED, DANLU, BARE)
WISHED = {RANDOM: 5.0, TUTORIAL: 2.0}


class Reached(Exception):
    """The score to reach was seen."""


class Watch:
    """Notes every better validation loss with the time at which it was seen."""

    def __init__(self, target: float | None) -> None:
        self.target = target
        self.started, self.processor = time.perf_counter(), time.process_time()
        self.seen: list[tuple[float, float, float]] = []

    def __call__(self, loss: float) -> None:
        if not self.seen or loss < self.seen[-1][2]:
            self.seen.append((time.perf_counter() - self.started, time.process_time() - self.processor, loss))
        if self.target is not None and loss <= self.target:
            raise Reached


def main() -> None:
    parser = report.parser(__doc__, rounds=5)
    parser.add_argument("--texts", type=Path, required=True, help="waimai_10k.csv, or another table of texts")
    parser.add_argument("--only", nargs="*", default=list(DATA), choices=list(DATA), help="data sets")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of random search, and at most of the others")
    parser.add_argument("--settings", nargs="*", default=[], help="section.key=value for all")
    parser.add_argument("--without", nargs="*", default=[], choices=COMPETITORS[1:], help="competitors to leave out")
    parser.add_argument("--child", help=report.argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=report.argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        told = json.loads(arguments.child)
        arguments.out.write_text(json.dumps(compete(**told)), encoding="utf-8")
        return
    if arguments.quick:
        arguments.rounds, arguments.trials = 1, 6
        arguments.settings = [*arguments.settings, "training.epochs=3"]
    facts = report.start_facts(arguments)
    samples: dict[str, Any] = {name: [] for name in arguments.only}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as folder:
        for seed in range(arguments.rounds):
            for name in arguments.only:
                data = str(arguments.texts.resolve()) if name == "waimai" else DATA[name]
                samples[name].append(_round(arguments, data, seed, Path(folder), name))
        own = overhead(Path(folder), 20 if arguments.quick else 200)
    report.publish(
        arguments,
        "tuning",
        "Time to the score of 50 random trials",
        facts,
        [row for name, rounds in samples.items() for row in table(name, rounds)],
        {"time_to_score": samples, "overhead": own},
        [
            f"score to reach: the lowest validation loss of {arguments.trials} random full-length trials of the seed",
            "seconds: wall time from the first trial on, median and range over seeds; >: not reached in as many trials",
            "random / this: how many times as long random search took, of the same seed",
            f"wished: danlu at most 1/{WISHED[RANDOM]:g} of random and 1/{WISHED[TUTORIAL]:g} of Optuna's set-up",
            f"the tuner's own time a trial (asking, telling, journal, table): {own['median_ms']:.0f} ms, at most"
            f" {own['max_ms']:.0f} ms, over {own['trials']} trials; of trials of 5 s {own['median_ms'] / 50:.2f} %",
        ],
    )


def _round(arguments: Any, data: str, seed: int, folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    target = None
    for who in (one for one in COMPETITORS if one not in arguments.without):
        told = {"data": data, "who": who, "seed": seed, "trials": arguments.trials, "target": target}
        told["words"] = arguments.settings
        command = [sys.executable, Path(__file__).resolve(), "--texts", arguments.texts.resolve()]
        result = report.run_child(
            [*command, "--child", json.dumps(told)],
            folder=folder,
            DANLU_RUNS=folder / "runs",
            OMP_WAIT_POLICY="PASSIVE",
        )
        found[who] = result
        if who == RANDOM:
            target = result["best"]
        told_time = f"{result['seconds']:.1f} s, {result['processor_seconds']:.1f} s of the processor"
        state = "" if result["reached"] else "   NOT reached"
        report.say(
            f"{name}, seed {seed}   {who}   {result['best']:.4f} in {result['trials']} trials   {told_time}{state}"
        )
    return found


def compete(data: str, who: str, seed: int, trials: int, target: float | None, words: list[str]) -> dict[str, Any]:
    """One competitor and seed, in this process."""
    from danlu.base import log
    from danlu.base.config import read_config
    from danlu.base.machine import suit_process_to_training

    suit_process_to_training()
    from danlu.tuning.plan import SearchSettings
    from danlu.tuning.prepare import prepare_search
    from danlu.tuning.storage import quiet

    quiet()
    with log.silence():
        prepared = prepare_search(data, read_config(None, words), SearchSettings(), "benchmark")
    prepared.trainings.train(prepared.trainings.config_for({}), 1e-6)  # the first steps of a process are slow
    watch = Watch(target)
    done = 0
    try:
        for _ in _searches(who)(prepared, seed, trials, watch):
            done += 1
    except Reached:
        done += 1
    reached = target is None or watch.seen[-1][2] <= target
    seconds, processor, best = watch.seen[-1]
    if not reached:
        seconds, processor = time.perf_counter() - watch.started, time.process_time() - watch.processor
    return {
        "best": best,
        "reached": reached,
        "seconds": seconds,
        "processor_seconds": processor,
        "trials": done,
        "seen": watch.seen,
    }


def _searches(who: str) -> Callable[..., Any]:
    if who == RANDOM:
        return _random
    if who in (TUTORIAL, SEEDED):
        return lambda *given: _tutorial(*given, seeded=who == SEEDED)
    return lambda *given: _danlu(*given, with_defaults=who == DANLU)


def _random(prepared: Any, seed: int, trials: int, watch: Watch) -> Any:
    import optuna

    from danlu.base.errors import DanluError
    from danlu.tuning.plan import suggest

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(trials):
        values = suggest(study.ask(), prepared.plan.space)
        with suppress(DanluError):  # a loss that is no number
            prepared.trainings.train(prepared.trainings.config_for(values), 1.0, lambda row: watch(row.validation_loss))
        yield None


def _tutorial(prepared: Any, seed: int, trials: int, watch: Watch, seeded: bool) -> Any:
    """As in Optuna's tutorial on pruning: every epoch of a full-length training is reported."""
    import optuna

    from danlu.base.errors import DanluError
    from danlu.tuning.plan import coded, suggest

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner())
    if seeded:
        study.enqueue_trial(coded(prepared.plan.defaults, prepared.plan.space))
    for _ in range(trials):
        trial = study.ask()
        values = suggest(trial, prepared.plan.space)
        losses: list[float] = []

        def on_epoch(row: Any, trial: Any = trial, losses: list[float] = losses) -> None:
            watch(row.validation_loss)
            losses.append(row.validation_loss)
            trial.report(row.validation_loss, row.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            prepared.trainings.train(prepared.trainings.config_for(values), 1.0, on_epoch)
            study.tell(trial, min(losses))
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except DanluError:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        yield None


def _danlu(prepared: Any, seed: int, trials: int, watch: Watch, with_defaults: bool) -> Any:
    """The search of `danlu tune`, with its journal on disk, without the run at its end."""
    from danlu.tuning.prepare import first_trials
    from danlu.tuning.search import Budget, Search
    from danlu.tuning.storage import Place, open_storage

    trainings = prepared.trainings
    train = trainings.train

    def watched(config: Any, share: float, on_epoch: Any = None) -> Any:
        def both(row: Any) -> None:
            watch(row.validation_loss)
            if on_epoch is not None:
                on_epoch(row)

        return train(config, share, both)

    trainings.train = watched
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as folder:
        plan = replace(prepared.plan, seed=seed)
        search = Search(plan, open_storage(Place(journal=Path(folder) / "journal.log")), trainings)
        search.stops_at = (Reached,)
        search.open(first_trials(plan, prepared.start, trainings) if with_defaults else [])
        for number in range(trials):
            search.run(Budget(trials=number + 1))
            yield None


def overhead(folder: Path, trials: int) -> dict[str, Any]:
    """What the tuner itself takes a trial, with trainings that take no time: asking, telling, journal and table."""
    from danlu.base.config import read_config
    from danlu.base.studies import Study
    from danlu.tuning.fidelity import Score
    from danlu.tuning.plan import SearchSettings
    from danlu.tuning.prepare import prepare_search
    from danlu.tuning.search import Budget, Search
    from danlu.tuning.storage import Place, open_storage
    from danlu.tuning.telling import find_best, line_of, write_trials

    prepared = prepare_search("digits", read_config(None, []), SearchSettings(), "overhead")
    trainings = prepared.trainings

    def at_once(config: Any, share: float, on_epoch: Any = None) -> Score:
        loss = abs(float(config.settings.training.learning_rate) - 0.003) + 0.1 / share
        return Score(loss, 0.9, 1, 1, 1.0, share, 0.0)

    trainings.train = at_once  # type: ignore[method-assign]
    study = Study(folder)
    search = Search(prepared.plan, open_storage(Place(journal=folder / "overhead.log")), trainings)
    search.open(prepared.first)
    taken: list[float] = []
    for number in range(trials):
        started = time.perf_counter()
        search.run(
            Budget(trials=number + 1),
            lambda one: line_of(one, prepared.plan, find_best(search.tried(), prepared.plan, trainings)) and None,
        )
        write_trials(study, prepared.plan, search.tried())
        taken.append(1e3 * (time.perf_counter() - started))
    return {"trials": trials, "median_ms": statistics.median(taken), "max_ms": max(taken), "each_ms": taken}


def table(name: str, rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for who in (one for one in COMPETITORS if one in rounds[0]):
        found = [one[who] for one in rounds]
        times = [one["seconds"] for one in found]
        gains = [one[RANDOM]["seconds"] / one[who]["seconds"] for one in rounds]
        reached = sum(one["reached"] for one in found)
        rows.append(
            {
                "data": name,
                "competitor": who,
                "n": len(found),
                "reached": f"{reached} of {len(found)}",
                "seconds to the score": report.spread(times),
                "random / this": report.spread(gains),
                "trials": report.spread([one["trials"] for one in found], ".0f"),
            }
        )
    return rows


if __name__ == "__main__":
    main()
