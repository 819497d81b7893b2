"""Whose a running trial is, and what becomes of it when its process is gone."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from danlu.base.machine import is_alive

MARK_SECONDS = 30
OWNER, REASON = "owner", "reason"
DEFAULTS, NEAR = "defaults", "near"  # of the trials a search begins with


def own_mark() -> dict[str, Any]:
    """This process, told apart from a later one of the same number by when it started."""
    return {"host": socket.gethostname(), "process": os.getpid(), "started": _started(os.getpid())}


def is_gone(owner: dict[str, Any] | None) -> bool:
    """Whether the process that owned a trial is known to be gone; of another machine nothing is known."""
    if owner is None or owner["host"] != socket.gethostname():
        return False
    return not is_alive(owner["process"]) or _started(owner["process"]) != owner["started"]


def is_lost(trial: FrozenTrial) -> bool:
    """Ended by no fault of its settings: its process was stopped or killed. It does not count as tried."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def give_back(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> bool:
    """End a trial as lost and queue its settings again; False when another process has done so."""
    frozen = trial if isinstance(trial, FrozenTrial) else study._storage.get_trial(trial._trial_id)
    try:
        study.tell(frozen.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    enqueue_again(study, frozen)
    return True


def enqueue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue the settings of a lost trial; whatever it had not drawn yet is drawn anew."""
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    kept = {key: value for key, value in trial.user_attrs.items() if key in (DEFAULTS, NEAR)}
    study.enqueue_trial(params, user_attrs={**kept, "again": trial.number})


def reclaim(study: optuna.Study) -> list[int]:
    """Give the trials of processes that are gone back to the queue; their numbers."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial.number for trial in running if _is_orphan(trial) and give_back(study, trial)]


def _is_orphan(trial: FrozenTrial) -> bool:
    if OWNER in trial.user_attrs:
        return is_gone(trial.user_attrs[OWNER])
    # Killed between its first record and its second.
    return trial.datetime_start is not None and (datetime.now() - trial.datetime_start).total_seconds() > MARK_SECONDS


def _started(process: int) -> str:
    """When a process started, as Linux counts it; empty where that cannot be asked."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
