"""The loop, to be read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from danlu.base.config import read_config
from danlu.base.errors import ModelError
from danlu.base.settings import TrainingSettings
from danlu.data.batches import Batches, as_batches, stream_seed
from danlu.training.checkpoints import Checkpoint, Checkpoints, optimizer_tensors, restore_optimizer
from danlu.training.ema import RunningMean
from danlu.training.losses import Loss, build_loss
from danlu.training.optimizers import build_optimizer
from danlu.training.recorder import EpochRow, Recorder
from danlu.training.schedules import build_schedule
from danlu.training.stopping import Stopping

PLAIN_DEFAULTS: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": "one_cycle",
    "warmup": 0.1,
    "label_smoothing": 0.0,
    "clip_norm": None,
}


@dataclass(frozen=True)
class Outcome:
    """What training ended with. `model` carries the best weights; `stop_reason` says why it ended."""

    model: nn.Module
    history: tuple[EpochRow, ...]
    best: EpochRow
    stop_reason: str


def fit(
    model: nn.Module,
    train_batches: Batches | Iterable[Any],
    validation_batches: Batches | Iterable[Any],
    settings: TrainingSettings | Mapping[str, Any] | None = None,
    *,
    class_weights: Tensor | None = None,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[EpochRow], None] | None = None,
    unit: str = "examples",
) -> Outcome:
    """Train any module on any batches of (inputs, labels) and give it back with its best weights.

    `train_batches` and `validation_batches`: danlu's batches or any iterable with a length, such as a `DataLoader`.
    `settings`: the words of section `training`, such as `{"epochs": 3, "learning_rate": 0.01}`.
    With `checkpoints` that hold a saved state, training goes on after its epoch.
    Raises `ModelError` when the loss is no longer a number.

    >>> x, y = torch.randn(64, 5), torch.arange(64) % 2
    >>> pairs = [(x[:32], y[:32]), (x[32:], y[32:])]
    >>> len(fit(nn.Linear(5, 2), pairs, pairs, {"epochs": 2}).history)
    2
    """
    settings = _concrete(settings)
    device = next(model.parameters()).device
    train_batches, validation_batches = as_batches(train_batches, device), as_batches(validation_batches, device)
    steps_per_epoch, epochs = len(train_batches), int(settings.epochs)
    loss_function = build_loss(settings, class_weights)
    optimizer = build_optimizer(model, settings)
    schedule = build_schedule(settings, steps_per_epoch * epochs, steps_per_epoch)
    stopping = Stopping(settings)
    mean = RunningMean(model, settings.ema) if settings.ema else None
    history: list[EpochRow] = []
    best_weights: dict[str, Tensor] = {}
    start_epoch = 0
    state = _State(model, optimizer, mean, schedule, stopping, history)
    if checkpoints and (saved := checkpoints.load_latest()):
        start_epoch = state.restore(saved)
        best_weights = dict(_best_of(checkpoints))
    stop_reason = stopping.reason() or f"all {epochs} epochs done"

    recorder = Recorder(epochs, steps_per_epoch, unit)
    try:
        for epoch in range(start_epoch, epochs if stopping.reason() is None else 0):
            torch.manual_seed(stream_seed(settings.seed, epoch, "dropout"))
            recorder.open_epoch(epoch)
            model.train()
            step = epoch * steps_per_epoch
            for inputs, labels in train_batches.epoch(epoch):
                set_learning_rate(optimizer, schedule(step))
                scores = model(inputs)
                loss = loss_function(scores, labels)
                loss.backward()
                if settings.clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), float(settings.clip_norm))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if mean is not None:
                    mean.update(model)
                recorder.add_batch(loss, scores, labels)
                step += 1
            row = _close(recorder, state, validation_batches, loss_function, epoch, step)
            is_best = stopping.is_best(row)
            row = replace(row, is_best=is_best)
            history.append(row)
            if is_best:
                best_weights = {name: value.detach().clone() for name, value in state.weights().items()}
            schedule.observe(row.validation_loss)
            recorder.close_epoch(row)
            reason = stopping.reason()
            is_last = reason is not None or epoch + 1 == epochs
            if checkpoints:
                if is_best:
                    checkpoints.keep_best(best_weights, row.to_json())
                if is_last or checkpoints.is_due():
                    checkpoints.save(state.to_checkpoint(epoch))
            if on_epoch:
                on_epoch(row)
            if reason is not None:
                stop_reason = reason
                break
    finally:
        recorder.close()
    model.load_state_dict(best_weights)
    return Outcome(model, tuple(history), next(r for r in reversed(history) if r.is_best), stop_reason)


@torch.inference_mode()
def validate(model: nn.Module, batches: Batches) -> tuple[float, float]:
    """(mean cross entropy, accuracy) over all examples, without dropout and without label smoothing."""
    model.eval()
    loss_sum, right, examples = torch.zeros((), dtype=torch.float64), 0, 0
    for inputs, labels in batches.epoch(0):
        scores = model(inputs).float()
        loss_sum = loss_sum + functional.cross_entropy(scores, labels, reduction="sum").double().cpu()
        right += int((scores.argmax(1) == labels).sum())
        examples += len(labels)
    return float(loss_sum) / max(1, examples), right / max(1, examples)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


class _State:
    """The things that change during training, saved and restored together."""

    def __init__(
        self, model: nn.Module, optimizer: Any, mean: Any, schedule: Any, stopping: Any, history: list[EpochRow]
    ) -> None:
        self.model, self.optimizer, self.mean = model, optimizer, mean
        self.schedule, self.stopping, self.history = schedule, stopping, history

    def weights(self) -> Mapping[str, Tensor]:
        """The weights that are evaluated: the running mean where there is one."""
        weights: Mapping[str, Tensor] = self.mean.mean if self.mean is not None else self.model.state_dict()
        return weights

    def to_checkpoint(self, epoch: int) -> Checkpoint:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.mean is not None:
            tensors.update({f"mean.{name}": value for name, value in self.mean.mean.items()})
        optimizer, values = optimizer_tensors(self.optimizer)
        return Checkpoint(
            {**tensors, **optimizer},
            {
                "epoch": epoch,
                "optimizer": values,
                "schedule": self.schedule.state(),
                "stopping": self.stopping.state(),
                "mean_steps": self.mean.steps if self.mean is not None else 0,
                "history": [row.to_json() for row in self.history],
            },
        )

    def restore(self, saved: Checkpoint) -> int:
        """Take over a checkpoint and return the epoch to go on with."""
        try:
            self.model.load_state_dict(_below("model.", saved.tensors))
            if self.mean is not None:
                self.mean.mean = _below("mean.", saved.tensors)
                self.mean.steps = saved.values["mean_steps"]
            restore_optimizer(self.optimizer, saved.tensors, saved.values["optimizer"])
            self.schedule.load_state(saved.values["schedule"])
            self.stopping.load_state(saved.values["stopping"])
            self.history[:] = [EpochRow(**row) for row in saved.values["history"]]
            return int(saved.values["epoch"]) + 1
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ModelError(f"the checkpoint does not fit this model and these settings: {error}") from error


def _close(
    recorder: Recorder, state: _State, validation_batches: Batches, loss_function: Loss, epoch: int, step: int
) -> EpochRow:
    """End an epoch: read the sums, validate the weights that would be kept."""
    train_loss, train_accuracy = recorder.close_training()
    if not math.isfinite(train_loss):
        raise ModelError(
            f"the training loss became {train_loss} in epoch {epoch + 1}",
            hint="lower `training.learning_rate`, or set `training.clip_norm=1`",
        )
    if state.mean is None:
        validation_loss, validation_accuracy = validate(state.model, validation_batches)
    else:
        own = {name: value.detach().clone() for name, value in state.model.state_dict().items()}
        state.model.load_state_dict(state.mean.mean)
        validation_loss, validation_accuracy = validate(state.model, validation_batches)
        state.model.load_state_dict(own)
    return EpochRow(
        epoch=epoch,
        step=step,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        validation_loss=validation_loss,
        validation_accuracy=validation_accuracy,
        learning_rate=float(state.optimizer.param_groups[0]["lr"]),
        seconds=time.perf_counter() - recorder.started,
        examples_per_second=recorder.examples / max(1e-9, recorder.train_seconds),
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _best_of(checkpoints: Checkpoints) -> Mapping[str, Tensor]:
    from danlu.training.checkpoints import load_checkpoint

    return load_checkpoint(checkpoints.folder, "best").tensors


def _concrete(settings: TrainingSettings | Mapping[str, Any] | None) -> TrainingSettings:
    """Settings without `auto`: plain defaults for whatever is left open."""
    if not isinstance(settings, TrainingSettings):
        settings = read_config(settings={"training": dict(settings or {})}).settings.training
    open_ = {name: value for name, value in PLAIN_DEFAULTS.items() if getattr(settings, name) == "auto"}
    return settings.model_copy(update=open_)
