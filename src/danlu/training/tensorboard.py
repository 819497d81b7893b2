"""TensorBoard events of a run: loss and rate of every step, the history of every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from danlu.base.errors import MachineError
from danlu.training.recorder import EpochRow


class EventWriter:
    """Writes below `folder`. Raises `MachineError` where the package is missing."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MachineError(
                "`training.tensorboard=true` needs the package tensorboard", hint='pip install "danlu[train]"'
            ) from error
        self.make: Any = SummaryWriter
        self.folder = folder
        self.events: Any = SummaryWriter(str(folder))

    def go_back(self, step: int) -> None:
        """Steps from this one on are written again; TensorBoard drops what it had of them."""
        self.events.close()
        self.events = self.make(str(self.folder), purge_step=step)

    def add_steps(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            self.events.add_scalar("loss/step", row["loss"], row["step"])
            self.events.add_scalar("learning_rate", row["learning_rate"], row["step"])
        self.events.flush()

    def add_epoch(self, row: EpochRow) -> None:
        for name in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"):
            value = getattr(row, name)
            if value is not None:
                part, _, what = name.partition("_")
                self.events.add_scalar(f"{what}/{part}", value, row.step)

    def close(self) -> None:
        self.events.close()
