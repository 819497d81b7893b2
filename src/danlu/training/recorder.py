"""What an epoch was like: sums kept on the device, read once an epoch; a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from danlu.base import log

BATCHES_AT_ONCE = 32


@dataclass(frozen=True)
class EpochRow:
    """One row of the history. Losses are means over examples; `seconds` covers training and validation."""

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    examples_per_second: float
    is_best: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Recorder:
    """Sums of an epoch without a stop of the device, and what the person watching sees."""

    def __init__(self, epochs: int, steps_per_epoch: int, unit: str = "examples") -> None:
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.unit = unit
        self.bar = _Bar(epochs, steps_per_epoch) if log.is_interactive() else None
        self.seconds_used: list[float] = []
        self.open_epoch(0)

    def open_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.started = time.perf_counter()
        self.loss_sum: Tensor | float = 0.0
        self.right: Tensor | int = 0
        self.examples = 0
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        if self.bar:
            self.bar.open(epoch)

    def add_batch(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Weighted by the number of examples; nothing is read back from the device."""
        self.waiting.append((loss.detach(), scores.detach(), labels))
        self.examples += len(labels)
        if len(self.waiting) == BATCHES_AT_ONCE:
            self._add_up()
        if self.bar:
            self.bar.advance()

    def close_training(self) -> tuple[float, float]:
        """(mean loss, accuracy) of the epoch's batches; the one read of the device."""
        if self.waiting:
            self._add_up()
        self.train_seconds = time.perf_counter() - self.started
        loss_sum, right = float(self.loss_sum), int(self.right)
        return loss_sum / max(1, self.examples), right / max(1, self.examples)

    def _add_up(self) -> None:
        """Many batches in a few operations: for small models, six operations a batch would be 2 % of the time."""
        losses, scores, labels = zip(*self.waiting, strict=True)
        device = losses[0].device
        kind = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        counts = torch.tensor([len(some) for some in labels], dtype=kind, device=device)
        self.loss_sum = self.loss_sum + (torch.stack(losses).to(kind) * counts).sum()
        self.right = self.right + (torch.cat(scores).argmax(1) == torch.cat(labels)).sum()
        self.waiting.clear()

    def close_epoch(self, row: EpochRow) -> None:
        """Tell the row."""
        self.seconds_used.append(row.seconds)
        left = (self.epochs - row.epoch - 1) * (sum(self.seconds_used) / len(self.seconds_used))
        best = " (best so far)" if row.is_best else ""
        line = (
            f"epoch {row.epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"
            f"   loss {row.train_loss:.4f}   validation loss {row.validation_loss:.4f}"
            f"   validation accuracy {row.validation_accuracy:6.2%}{best:<14}"
            f"   {row.seconds:6.1f} s   {row.examples_per_second:8,.0f} {self.unit}/s"
        )
        if left >= 1:
            line += f"   {readable_seconds(left)} left"
        if self.bar:
            self.bar.say(line)
        else:
            log.say(line)

    def close(self) -> None:
        if self.bar:
            self.bar.close()


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

    def open(self, epoch: int) -> None:
        self.waiting = 0
        self.progress.update(
            self.task, description=f"epoch {epoch + 1}/{self.epochs}", completed=epoch * self.steps_per_epoch
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
