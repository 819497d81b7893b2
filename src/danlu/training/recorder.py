"""What an epoch was like: sums kept on the device, read once an epoch; a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from danlu.base import log
from danlu.training.precision import widened
from danlu.training.processes import Processes
from danlu.training.step import Stepped

STEPS_AT_ONCE = 32


@dataclass(frozen=True)
class EpochRow:
    """One row of the history. Losses are means over examples; `seconds` covers training and validation.

    Accuracies are None where answers are not scores of classes.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    examples_per_second: float
    is_best: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Recorder:
    """What the steps of an epoch gave, without a stop of the device, and what the person watching sees.

    The loss of every step is kept until the epoch ends, so that its mean does not depend on when it was looked at:
    a resumed run reports the same bits.
    """

    def __init__(
        self, epochs: int, steps_per_epoch: int, unit: str = "examples", processes: Processes | None = None
    ) -> None:
        self.epochs = epochs
        self.unit = unit
        self.processes = processes or Processes()
        self.is_watched = self.processes.rank == 0
        self.bar = _Bar(epochs, steps_per_epoch) if log.is_interactive() and self.is_watched else None
        self.seconds_used: list[float] = []
        self.open_epoch(0)

    def open_epoch(self, epoch: int, saved: Mapping[str, Any] | None = None) -> None:
        """Start an epoch, or go on with one from what `state` saved."""
        saved = saved or {}
        self.epoch = epoch
        self.losses: list[float] = list(saved.get("losses", ()))
        self.examples: list[int] = list(saved.get("examples", ()))
        self.rates: list[float] = list(saved.get("rates", ()))
        self.norms: list[float] = list(saved.get("norms", ()))  # one a step where gradients are clipped, else none
        self.right: int | None = saved.get("right", 0)
        self.told = len(self.losses)
        self.seconds_before = float(saved.get("seconds", 0.0))
        self.started = time.perf_counter()
        self.examples_before = sum(self.examples)
        self.bad_step: int | None = None
        self.on_device: list[Tensor] = []
        self.norms_on_device: list[Tensor] = []
        self.right_on_device: Tensor | int = 0
        self.waiting: list[Stepped] = []
        if self.bar:
            self.bar.open(epoch, len(self.losses))

    def add_step(self, stepped: Stepped, learning_rate: float) -> None:
        """Take note of a step; nothing is read back from the device."""
        self.waiting.append(stepped)
        self.examples.append(stepped.examples)
        self.rates.append(learning_rate)
        if len(self.waiting) == STEPS_AT_ONCE:
            self._gather()
        if self.bar:
            self.bar.advance()

    def read(self) -> None:
        """Bring all that is on the device here: the one read, at the end of an epoch and before a save.

        `bad_step` is then the place in the epoch of the first loss that is not a number.
        """
        if self.waiting:
            self._gather()
        if self.on_device:
            known = len(self.losses)
            self.losses += self.processes.add_up(torch.cat(self.on_device)).tolist()
            if self.bad_step is None:
                bad = (place for place in range(known, len(self.losses)) if not math.isfinite(self.losses[place]))
                self.bad_step = next(bad, None)
            self.on_device.clear()
            if self.norms_on_device:
                self.norms += torch.cat(self.norms_on_device).tolist()
                self.norms_on_device.clear()
            if self.right is not None:
                right = torch.as_tensor(self.right_on_device, device=self.device)
                self.right += int(self.processes.add_up(right))
            self.right_on_device = 0

    def state(self) -> dict[str, Any]:
        """What `open_epoch` needs to go on; call `read` first."""
        return {
            "losses": self.losses,
            "examples": self.examples,
            "rates": self.rates,
            "norms": self.norms,
            "right": self.right,
            "seconds": self.seconds(),
        }

    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def train_means(self) -> tuple[float, float | None]:
        """(mean loss, accuracy) of the epoch's examples; call `read` first."""
        count = max(1, sum(self.examples))
        total = math.fsum(loss * size for loss, size in zip(self.losses, self.examples, strict=True))
        return total / count, None if self.right is None else self.right / count

    def new_rows(self, step: int) -> list[dict[str, Any]]:
        """A row for each step not told before, `step` being the number of steps done; call `read` first."""
        first = step - len(self.losses)
        rows = []
        for place in range(self.told, len(self.losses)):
            loss = self.losses[place]
            row: dict[str, Any] = {
                "step": first + place,
                "epoch": self.epoch,
                "loss": loss if math.isfinite(loss) else None,
                "learning_rate": self.rates[place],
            }
            if self.norms:
                row["gradient_norm"] = self.norms[place] if math.isfinite(self.norms[place]) else None
            rows.append(row)
        self.told = len(self.losses)
        return rows

    def _gather(self) -> None:
        """Many steps in a few operations: for small models, six operations a step would be 2 % of the time."""
        self.on_device.append(widened(torch.stack([stepped.loss for stepped in self.waiting])))
        norms = [stepped.gradient_norm for stepped in self.waiting if stepped.gradient_norm is not None]
        if norms:
            self.norms_on_device.append(torch.stack(norms).float())
        answers = [pair for stepped in self.waiting for pair in stepped.answers]
        self.device = self.on_device[0].device
        if any(not is_classification(*pair) for pair in answers):
            self.right = None
        if self.right is not None and answers:
            scores, labels = (torch.cat(parts) for parts in zip(*answers, strict=True))
            self.right_on_device = self.right_on_device + (scores.argmax(1) == labels).sum()
        self.waiting.clear()

    def close_epoch(self, row: EpochRow) -> None:
        """Tell the row."""
        self.seconds_used.append(row.seconds)
        if not self.is_watched:
            return
        left = (self.epochs - row.epoch - 1) * (sum(self.seconds_used) / len(self.seconds_used))
        best = " (best so far)" if row.is_best else ""
        accuracy = "" if row.validation_accuracy is None else f"   validation accuracy {row.validation_accuracy:6.2%}"
        line = (
            f"epoch {row.epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"
            f"   loss {row.train_loss:.4f}   validation loss {row.validation_loss:.4f}"
            f"{accuracy}{best:<14}"
            f"   {row.seconds:6.1f} s   {row.examples_per_second:8,.0f} {self.unit}/s"
        )
        if left >= 1:
            line += f"   {readable_seconds(left)} left"
        if self.bar:
            self.bar.say(line)
        else:
            log.say(line)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.close()


def is_classification(scores: Tensor, labels: Tensor) -> bool:
    """Scores (B, classes) of labels (B,) that are whole numbers."""
    return scores.ndim == 2 and labels.ndim == 1 and not labels.is_floating_point() and scores.shape[1] > 1


class _Bar:
    """A rich progress bar with the time left, over all steps of all epochs."""

    def __init__(self, epochs: int, steps_per_epoch: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.epochs = epochs
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.progress.add_task("training", total=epochs * steps_per_epoch)
        self.steps_per_epoch = steps_per_epoch
        self.waiting = 0
        self.last = time.perf_counter()
        self.progress.start()

    def open(self, epoch: int, step: int) -> None:
        self.waiting = 0
        self.progress.update(
            self.task, description=f"epoch {epoch + 1}/{self.epochs}", completed=epoch * self.steps_per_epoch + step
        )

    def advance(self) -> None:
        self.waiting += 1
        now = time.perf_counter()
        if now - self.last > 0.1:
            self.progress.advance(self.task, self.waiting)
            self.waiting, self.last = 0, now

    def say(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()


def readable_seconds(seconds: float) -> str:
    """
    >>> readable_seconds(75), readable_seconds(3700), readable_seconds(4.25)
    ('1 min 15 s', '1 h 01 min', '4.2 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
