"""The verb `tune`: DATA → a study with better settings, and a run trained with them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from danlu.base import log
from danlu.base.config import Config, read_config
from danlu.base.errors import ConfigError, ModelError
from danlu.base.files import remove_folder, write_text
from danlu.base.runs import Run
from danlu.base.studies import Study, create_study, existing_study, find_study
from danlu.data.kept_split import short_name
from danlu.reporting.study_page import write_study_page
from danlu.training.recorder import readable_seconds
from danlu.training.train import train
from danlu.tuning.importance import write_importance
from danlu.tuning.owners import reclaim
from danlu.tuning.plan import SearchPlan, SearchSettings, Values
from danlu.tuning.prepare import Prepared, check_search, prepare_again, prepare_search
from danlu.tuning.search import Budget, Search, Tried
from danlu.tuning.storage import Place, opened, place_of
from danlu.tuning.supervise import run_workers
from danlu.tuning.telling import Best, command_of, find_best, gain_told, line_of, say_space, write_best, write_trials

DEFAULT_TRIALS = 50
SPACE_HEAD = "# What is searched. Edit a copy and give it back: danlu tune DATA --space space.yaml\n"
WRITE_SECONDS = 2.0
WORTH_TELLING_SECONDS = 20.0


@dataclass(frozen=True)
class Tuning:
    """What a search ended with.

    `best`: the winner's settings by key; `score`: what it and `defaults_score`: what danlu's defaults reached on the
    validation part, by `training.best_by`; `run`: the winner trained in full, None on a machine that only joined in.
    """

    study: Study
    run: Run | None
    trials: int
    best: Values
    score: float
    defaults_score: float | None
    command: str


def tune(
    data: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    config: str | Path | None = None,
    words: Sequence[str] = (),
    name: str | None = None,
    resume: str | Path | None = None,
    search: SearchSettings | None = None,
) -> Tuning:
    """Search for settings that do better than danlu's defaults on the validation part, and train them in full.

    Trial 0 is the defaults, so that the search cannot end worse than they are. Settings given here hold for all trials
    and are not searched. The test part is not looked at. `name`: of the study, which is gone on with where it exists;
    `resume`: a study to go on with. Raises `ConfigError`, `DataError`, `MachineError`, and `ModelError` when every
    trial failed.

    >>> from danlu.tuning.plan import SearchSettings
    >>> tuning = tune("digits", search=SearchSettings(trials=20))   # doctest: +SKIP
    >>> tuning.run.status()["study"]["trials"]                      # doctest: +SKIP
    20
    """
    search = search or SearchSettings()
    check_search(search)
    if "RANK" in os.environ:
        raise ConfigError(
            "torchrun starts the processes of one training, not those of a search",
            hint="`danlu tune --workers K`, and `--storage` for several machines",
        )
    if resume is not None:
        if data is not None or settings or words or config or name or search.space or search.grid or search.models:
            raise ConfigError(
                "a study is gone on with by its own data, settings and space", hint="give only its budget with it"
            )
        study = find_study(resume)
        return _hold_and_search(study, _as_begun(study, search), None)
    if data is None:
        raise ConfigError("no DATA given", hint="`danlu tune photos/`, or a name from `danlu data list`")
    checked = read_config(config, words, settings)
    place_of(search.storage, Path())  # what is refused is refused before anything is written
    known = existing_study(name) if name is not None else None
    study = known or create_study(name, short_name(data))
    try:
        return _hold_and_search(study, search, (data, checked))
    finally:
        if not study.status_file.exists() and not study.journal_file.exists():
            remove_folder(study.folder)  # nothing was begun


def _hold_and_search(study: Study, search: SearchSettings, begun: tuple[str | Path, Config] | None) -> Tuning:
    with study.hold():
        status = study.status() if study.status_file.exists() else {}
        place = _place(study, search, status)
        log.say(f"study: {study}")
        if begun is None:
            prepared = prepare_again(SearchPlan.from_json(status["plan"]))
        else:
            prepared = prepare_search(*begun, search, study.name)
        return _search_in(study, search, prepared, place)


def _search_in(study: Study, search: SearchSettings, prepared: Prepared, place: Place) -> Tuning:
    status = study.status() if study.status_file.exists() else {}
    plan, used = prepared.plan, float(status.get("seconds", 0.0))
    with opened(place) as storage:
        looking = Search(plan, storage, prepared.trainings)
        is_new = looking.open(prepared.first)
        started = time.time()
        trials = search.trials
        if trials is None and search.minutes is None and plan.sampler != "grid":
            trials = DEFAULT_TRIALS
        deadline = None if search.minutes is None else started + max(0.0, 60 * search.minutes - used)
        budget = Budget(trials, deadline)
        study.update(
            state="running",
            process=os.getpid(),
            started=status.get("started") or datetime.now().astimezone().isoformat(timespec="seconds"),
            storage=str(place) if place.url else None,
            joined=status.get("joined", place.url is not None and not is_new),
            run=status.get("run"),
            failure=None,
            trials=trials,
            minutes=search.minutes,
            workers=search.workers,
            plan=plan.to_json(),
            model=prepared.start.config.settings.model.name,
            kind=prepared.start.prepared.kind,
            full_epochs=int(prepared.start.config.settings.training.epochs),
            parts={part: len(examples) for part, examples in prepared.start.prepared.parts.items()},
        )
        write_text(study.space_file, SPACE_HEAD + plan.space.to_yaml())
        _say_start(plan, looking, budget)
        progress = _Progress(study, plan, looking, prepared, used)
        try:
            _run(looking, place, budget, search.workers, progress)
        except KeyboardInterrupt:
            progress.write("interrupted")
            log.say(f"stopped; go on with `danlu tune --resume {study}`")
            raise
        except Exception as error:
            study.update(state="failed", failure=getattr(error, "message", type(error).__name__))
            raise
        tried = progress.write("running")
        best = find_best(tried, plan, prepared.trainings)
        if best is None:
            progress.write("failed", failure="every trial failed")
            raise _all_failed(tried)
        return _finish(study, prepared, tried, best, progress)


def _run(looking: Search, place: Place, budget: Budget, workers: int, progress: _Progress) -> None:
    for number in reclaim(looking.study):
        log.say(f"trial {number} was under way when its process ended; its settings are queued again")
    if workers == 1:
        looking.run(budget, progress.tell)
    elif not looking.is_done(budget):
        run_workers(looking, place, budget, workers, progress.look)


class _Progress:
    """What is written while a search goes on."""

    def __init__(self, study: Study, plan: SearchPlan, looking: Search, prepared: Prepared, used: float) -> None:
        self.study = study
        self.plan = plan
        self.looking = looking
        self.prepared = prepared
        self.used = used
        self.started = self.written = time.time()

    def tell(self, tried: Tried) -> None:
        every = self.looking.tried()
        log.say(line_of(tried, self.plan, find_best(every, self.plan, self.prepared.trainings)))
        if tried.is_defaults and tried.state == "complete" and tried.scores[-1].seconds > WORTH_TELLING_SECONDS:
            full = tried.scores[-1].seconds
            lowest = full * self.looking.rungs[0].share
            told = f"from about {readable_seconds(lowest)} to {readable_seconds(full)}"
            log.say(f"a trial takes {told}, by how far it comes; smaller batches take longer")
        self._write_now_and_then(every)

    def look(self) -> None:
        if time.time() - self.written > WRITE_SECONDS:
            self._write_now_and_then(self.looking.tried())

    def write(self, state: str, **more: Any) -> list[Tried]:
        """Everything that can be told now."""
        tried = self.looking.tried()
        write_trials(self.study, self.plan, tried)
        write_importance(self.study, self.plan, tried)
        best = find_best(tried, self.plan, self.prepared.trainings)
        defaults = defaults_of(tried)
        told = None
        if best is not None:
            gain = gain_told(self.plan, best, defaults)
            write_best(self.study, self.plan, best, gain)
            told = {
                "number": best.number,
                "settings": best.settings,
                "score": best.score.value(self.plan.best_by),
                "loss": best.score.loss,
                "accuracy": best.score.accuracy,
                "gain": gain,
                "command": command_of(self.plan.data, self.plan, best),
            }
        self.study.update(
            state=state,
            seconds=round(self.used + time.time() - self.started, 1),
            best=told,
            defaults=None if defaults is None or not defaults.scores else vars(defaults.scores[-1]),
            tried=sum(one.state != "lost" for one in tried),
            **more,
        )
        write_study_page(self.study)
        return tried

    def _write_now_and_then(self, tried: list[Tried]) -> None:
        """The table and the time used, not at every trial where these take no time."""
        if time.time() - self.written > WRITE_SECONDS:
            write_trials(self.study, self.plan, tried)
            self.study.update(seconds=round(self.used + time.time() - self.started, 1))
            self.written = time.time()


def _finish(study: Study, prepared: Prepared, tried: list[Tried], best: Best, progress: _Progress) -> Tuning:
    """Train the winner as any other run, and name the study in it."""
    plan, defaults = prepared.plan, defaults_of(tried)
    gain = gain_told(plan, best, defaults)
    log.say(f"best: trial {best.number}, {gain}")
    log.say("the test part was not looked at; trial 0 is danlu's defaults, so this is no worse than they are")
    command = command_of(plan.data, plan, best)
    log.say(f"its command: {command}")
    status = study.status()
    run = None
    if status["joined"]:
        log.say("this machine joined in; the one that began the study trains the winner")
    else:
        run = _trained_before(status, best) or train(plan.data, config=study.best_file)
        counted = sum(one.state != "lost" for one in tried)
        score = best.score.value(plan.best_by)
        run.update(
            study={"name": study.name, "trial": best.number, "trials": counted, "by": plan.best_by, "score": score}
            | {"defaults_score": None if defaults is None else _score(defaults, plan), "gain": gain}
        )
    progress.write("finished", run=None if run is None else str(run), run_settings=best.settings)
    log.say(f"study page: {study.page_file}")
    return Tuning(
        study=study,
        run=run,
        trials=sum(one.state != "lost" for one in tried),
        best=best.settings,
        score=best.score.value(plan.best_by),
        defaults_score=None if defaults is None else _score(defaults, plan),
        command=command,
    )


def defaults_of(tried: Sequence[Tried]) -> Tried | None:
    """The trial of danlu's defaults, when it has ended in full."""
    return next((one for one in tried if one.is_defaults and one.state == "complete"), None)


def _score(tried: Tried, plan: SearchPlan) -> float:
    return tried.scores[-1].value(plan.best_by)


def _trained_before(status: Mapping[str, Any], best: Best) -> Run | None:
    """The run of an earlier end of this study, where the winner is still the same."""
    run = Run(Path(str(status.get("run"))))
    if not status.get("run") or status.get("run_settings") != best.settings or not run.status_file.exists():
        return None
    if run.status().get("state") != "finished":
        return None
    log.say(f"the winner is that of run `{run}`, which is trained already")
    return run


def _as_begun(study: Study, search: SearchSettings) -> SearchSettings:
    """The budget and workers given now, else those the study was begun with."""
    status = study.status()
    if "plan" not in status:
        raise ModelError(f"`{study}` ended before its first trial", hint="start it again with `danlu tune DATA`")
    is_open = search.trials is None and search.minutes is None
    return replace(
        search,
        trials=status["trials"] if is_open else search.trials,
        minutes=status["minutes"] if is_open else search.minutes,
        workers=search.workers,
    )


def _place(study: Study, search: SearchSettings, status: Mapping[str, Any]) -> Place:
    kept = status.get("storage")
    if kept and not search.storage:
        raise ConfigError(
            f"the trials of `{study}` are in `{kept}`", hint="give `--storage` again; passwords are not kept"
        )
    if search.storage and status and not kept:
        raise ConfigError(f"the trials of `{study}` are in its own journal", hint="leave `--storage` out")
    place = place_of(search.storage, study.journal_file)
    if search.storage and not search.storage.startswith("postgresql+"):
        log.say(f"storage: {place}, which pg8000 speaks with")
    return place


def _say_start(plan: SearchPlan, looking: Search, budget: Budget) -> None:
    say_space(plan)
    shares = ", ".join(f"{rung.share:.3g}" for rung in looking.rungs)
    log.say("trial 0 is danlu's defaults; some trials look near the best so far, as long as it was trained")
    log.say(f"every other trial is trained at {shares} of the full budget, while it is among the best")
    log.say(f"compared by {plan.score_name} at the best epoch; every training has seed {plan.seed}")
    until = [f"{budget.trials} trials"] if budget.trials is not None else []
    if budget.deadline is not None:
        until.append(readable_seconds(max(0.0, budget.deadline - time.time())))
    log.say(f"until: {' or '.join(until) or 'all combinations are tried'}")


def _all_failed(tried: Sequence[Tried]) -> ModelError:
    reasons = Counter(one.reason for one in tried if one.reason)
    if not reasons:
        return ModelError("no trial came to an end", hint="give more `--minutes`, or fewer examples or epochs")
    reason, count = reasons.most_common(1)[0]
    return ModelError(
        f"all {len(tried)} trials failed, {count} of them with: {reason}",
        hint="`danlu train DATA` with the defaults shows whether the data is at fault; else narrow the space",
    )
