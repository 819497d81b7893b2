"""Everything that changes during training, saved and restored together, and what must be equal to go on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danlu.base.errors import ConfigError, ModelError
from danlu.training.checkpoints import Checkpoint, optimizer_tensors, restore_optimizer
from danlu.training.ema import RunningMean
from danlu.training.recorder import EpochRow, Recorder
from danlu.training.schedules import Schedule
from danlu.training.step import Step
from danlu.training.stopping import Stopping


@dataclass
class Cursor:
    """How far training is: `batch` batches of `epoch` are done, `step` optimizer steps in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class TrainingState:
    """The parts of a training that carry something from one step to the next."""

    model: nn.Module
    step: Step
    schedule: Schedule
    stopping: Stopping
    mean: RunningMean | None
    recorder: Recorder
    history: list[EpochRow]
    cursor: Cursor

    def weights(self) -> Mapping[str, Tensor]:
        """The weights that are evaluated: the running mean where there is one."""
        return self.mean.mean if self.mean is not None else self.model.state_dict()

    def to_checkpoint(self, facts: Mapping[str, Any], last_batch: str | None) -> Checkpoint:
        """`facts` and the fingerprint of the last batch are compared when training goes on. Read the recorder first.

        Raises `ModelError` rather than giving a state that holds NaN.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.mean is not None:
            tensors.update({f"mean.{name}": value for name, value in self.mean.mean.items()})
        broken = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
        if broken:
            raise ModelError(
                f"the weights are no longer numbers at step {self.cursor.step:,}, first `{broken[0]}`",
                hint="lower `training.learning_rate`, or set `training.clip_norm=1`",
            )
        optimizer, values = optimizer_tensors(self.step.optimizer)
        return Checkpoint(
            {**tensors, **optimizer},
            {
                "epoch": self.cursor.epoch,
                "batch": self.cursor.batch,
                "step": self.cursor.step,
                "optimizer": values,
                "schedule": self.schedule.state(),
                "stopping": self.stopping.state(),
                "scaler": self.step.precision.state(),
                "mean_steps": self.mean.steps if self.mean is not None else 0,
                "micro_rows": self.step.micro_rows,
                "recorder": self.recorder.state(),
                "history": [row.to_json() for row in self.history],
                "facts": dict(facts),
                "last_batch": last_batch,
            },
        )

    def restore(self, saved: Checkpoint) -> None:
        """Take over a checkpoint. Raises `ModelError` when it is of another model or optimizer."""
        values = saved.values
        try:
            self.model.load_state_dict(_below("model.", saved.tensors))
            if self.mean is not None:
                self.mean.restore(_below("mean.", saved.tensors), values["mean_steps"])
            restore_optimizer(self.step.optimizer, saved.tensors, values["optimizer"])
            self.schedule.load_state(values["schedule"])
            self.stopping.load_state(values["stopping"])
            self.step.precision.load_state(values["scaler"])
            self.step.micro_rows = values["micro_rows"]
            self.history[:] = [EpochRow(**row) for row in values["history"]]
            self.cursor.epoch, self.cursor.batch = int(values["epoch"]), int(values["batch"])
            self.cursor.step = int(values["step"])
        except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(
                f"the checkpoint does not fit this model and these settings: {str(error).strip()}",
                hint="go on with the model, the optimizer and the settings it was saved with",
            ) from error


def require_equal_facts(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `ConfigError` naming everything that differs, so that going on would not give the same bits."""
    problems = [
        (key, f"was {then.get(key, 'not there')!s}, is {now.get(key, 'not there')!s}")
        for key in dict.fromkeys([*then, *now])
        if then.get(key) != now.get(key)
    ]
    if problems:
        raise ConfigError.of_problems(
            "going on bit for bit, since the last save",
            problems,
            hint="restore these, or go on inexactly: `--inexact`, in Python `inexact=True`",
        )


def parameters_fact(model: nn.Module) -> str:
    """A short text that differs between architectures."""
    tensors = model.state_dict()
    return f"{sum(value.numel() for value in tensors.values()):,} numbers in {len(tensors)} tensors"


def device_fact(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
