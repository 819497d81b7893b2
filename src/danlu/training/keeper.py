"""When the state of a training is saved, and how it is gone on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from danlu.base.errors import ConfigError, ModelError
from danlu.data.batches import Batch, fingerprint
from danlu.training.checkpoints import Checkpoint, Checkpoints
from danlu.training.interrupt import Interrupted, StopRequest
from danlu.training.processes import Processes
from danlu.training.recorder import EpochRow
from danlu.training.state import TrainingState, require_equal_facts

AGREE_SECONDS = 0.25


@dataclass
class Hooks:
    """What the loop tells while it runs, as plain functions; only the first of several processes calls them.

    `on_epoch` gets each row of the history. `on_steps` gets, before a save, the rows of the steps not told before;
    they are on disk when it returns. `on_watched` gets the rows of the steps that were looked at, `on_first_step` what
    the very first one told. `on_resume` gets the values of the checkpoint that is gone on from.
    """

    on_epoch: Callable[[EpochRow], None] = lambda row: None
    on_steps: Callable[[list[dict[str, Any]]], None] = lambda rows: None
    on_watched: Callable[[list[dict[str, Any]]], None] = lambda rows: None
    on_first_step: Callable[[dict[str, Any]], None] = lambda facts: None
    on_resume: Callable[[Mapping[str, Any]], None] = lambda values: None


class Keeper:
    """Saves a training's state at steps all processes agree on; `checkpoints` is that of the first process."""

    def __init__(
        self,
        state: TrainingState,
        checkpoints: Checkpoints | None,
        processes: Processes,
        stop: StopRequest,
        hooks: Hooks,
        facts: Mapping[str, Any],
        every_steps: int | None,
    ) -> None:
        self.state = state
        self.checkpoints = checkpoints
        self.processes = processes
        self.stop = stop
        self.hooks = hooks
        self.facts = processes.share(json.loads(json.dumps(facts)))
        self.every_steps = every_steps
        self.inexact = False
        self.rows: list[dict[str, Any]] = []
        self.last_batch: Batch | None = None
        self.last_fingerprint: str | None = None
        self.agreed_step, self.agreed_at, self.next_agreement = 0, time.perf_counter(), 0

    def begin(self, *, inexact: bool) -> dict[str, Tensor]:
        """Go on from the last save, or make the first one: a disk that is full or read-only shows before any work.

        Returns the best weights so far.
        """
        self.inexact = inexact
        found = self.checkpoints.load_latest() if self.checkpoints else None
        saved, best = found or (None, None)
        values = self.processes.share(saved.values if saved else None)
        if values is None:
            self.save()
            return {}
        if not inexact:
            require_equal_facts(values["facts"], self.facts)
        tensors = self.processes.share_tensors(saved.tensors if saved else None)
        self.state.restore(Checkpoint(tensors, values))
        cursor = self.state.cursor
        self.state.recorder.open_epoch(cursor.epoch, values["recorder"])
        self.last_fingerprint = values["last_batch"]
        self.agreed_step = self.next_agreement = cursor.step
        if self.processes.rank == 0:
            self.hooks.on_resume(values)
        return self.processes.share_tensors(best.tensors if best else None)

    def require_same_batch(self, batch: Batch | None, epoch: int, place: int) -> None:
        """The batch before the next one must be what it was when it was trained on."""
        if self.inexact or (batch is not None and fingerprint(batch) == self.last_fingerprint):
            return
        raise ConfigError(
            f"going on bit for bit: batch {place + 1:,} of epoch {epoch + 1} is not what it was"
            + (" (the loader gives fewer)" if batch is None else ""),
            hint="a loader has to give an epoch's batches again; or go on inexactly: `--inexact`, `inexact=True`",
        )

    def after_step(self, last_batch: Batch) -> None:
        """Save when it is due; save and raise `Interrupted` when a signal came."""
        self.last_batch = last_batch
        signal, is_due = self._agree()
        if is_due or signal:
            self.save()
        if signal:
            raise Interrupted(signal)

    def after_epoch(self, best_weights: Mapping[str, Tensor] | None, row: EpochRow, *, is_last: bool) -> None:
        self.last_batch = self.last_fingerprint = None
        if best_weights is not None and self.checkpoints:
            self.checkpoints.keep_best(best_weights, row.to_json())
        signal, is_due = self._agree(now=True)
        if is_last or signal or (is_due and self.every_steps is None):
            self.save()
        if signal and not is_last:
            raise Interrupted(signal)

    def tell_rest(self) -> None:
        """The rows that wait for the next save, when there will be none: who asks why looks at them."""
        self.rows += self.state.recorder.new_rows(self.state.cursor.step)
        if self.checkpoints is not None and self.rows:
            self._tell_watched()
            self.hooks.on_steps(self.rows)
        self.rows = []

    def tell_epoch(self, row: EpochRow) -> None:
        self.rows += self.state.recorder.new_rows(self.state.cursor.step)
        if self.processes.rank == 0:
            self.hooks.on_epoch(row)

    def save(self) -> None:
        """The rows of the steps first, then the state: what is committed has all its rows."""
        state = self.state
        state.recorder.read()
        require_numbers(state)
        if self.last_batch is not None:
            self.last_fingerprint, self.last_batch = fingerprint(self.last_batch), None
        checkpoint = state.to_checkpoint(self.facts, self.last_fingerprint)
        self.rows += state.recorder.new_rows(state.cursor.step)
        if self.checkpoints is None:
            self.rows.clear()
            return
        if self.rows:
            self._tell_watched()
            self.hooks.on_steps(self.rows)
            self.rows = []
        self.checkpoints.save(checkpoint)

    def _tell_watched(self) -> None:
        watch = self.state.step.watch
        if watch is not None and (rows := watch.take()):
            self.hooks.on_watched(rows)

    def _agree(self, *, now: bool = False) -> tuple[int, bool]:
        """(signal, whether a save is due), the same in all processes.

        Several processes ask each other every quarter of a second, counted in steps, since each question costs one
        exchange.
        """
        step = self.state.cursor.step
        if self.processes.count == 1:
            return self.stop.signal, self.checkpoints is not None and self.checkpoints.cadence.is_due(step)
        is_due = self.every_steps is not None and step % self.every_steps == 0
        if step < self.next_agreement and not now:
            return 0, is_due
        seconds = (time.perf_counter() - self.agreed_at) / max(1, step - self.agreed_step)
        wanted = max(1, int(AGREE_SECONDS / max(1e-6, seconds))) if self.checkpoints else 0
        if self.every_steps is None and self.checkpoints:
            is_due = self.checkpoints.cadence.is_due(step)
        signal, due, interval = self.processes.highest([float(self.stop.signal), float(is_due), float(wanted)])
        self.agreed_step, self.agreed_at, self.next_agreement = step, time.perf_counter(), step + int(interval)
        return int(signal), bool(due)


class NotANumber(ModelError):
    """The loss of a step is NaN or infinite; `place` is the number of steps of this epoch before it."""

    def __init__(self, message: str, *, place: int) -> None:
        super().__init__(
            message,
            hint="lower `training.learning_rate`, or set `training.clip_norm=1`; the last checkpoint is from before",
        )
        self.place = place


def require_numbers(state: TrainingState) -> None:
    """Raise `NotANumber` when a loss was NaN or infinite; call `recorder.read` first."""
    place = state.recorder.bad_step
    if place is None:
        return
    step = state.cursor.step - len(state.recorder.losses) + place
    loss = state.recorder.losses[place]
    raise NotANumber(
        f"the training loss became {'infinite' if math.isinf(loss) else 'NaN'} in epoch {state.cursor.epoch + 1},"
        f" step {step + 1:,}",
        place=place,
    )
