"""Which epoch is best, and when more of them are not worth it."""

from __future__ import annotations

import math
from typing import Any

from danlu.base.settings import TrainingSettings
from danlu.training.recorder import EpochRow


class Stopping:
    """Compares epochs by `best_by` and stops after `patience` of them without a better one.

    Equal accuracy is decided by the lower validation loss.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.by = settings.best_by
        self.patience = settings.patience
        self.best: tuple[float, float] | None = None
        self.best_epoch = -1
        self.epoch = -1

    def is_best(self, row: EpochRow) -> bool:
        """Take note of an epoch; True when it is the best so far."""
        self.epoch = row.epoch
        rank = self._rank(row)
        better = self.best is None or rank > self.best
        if better:
            self.best, self.best_epoch = rank, row.epoch
        return better

    def reason(self) -> str | None:
        """Why to stop now, or None."""
        waited = self.epoch - self.best_epoch
        if self.patience is None or waited < self.patience:
            return None
        return f"no better {self.by.replace('_', ' ')} for {waited} epochs (best at epoch {self.best_epoch + 1})"

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "epoch": self.epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best = tuple(state["best"]) if state["best"] is not None else None
        self.best_epoch, self.epoch = state["best_epoch"], state["epoch"]

    def _rank(self, row: EpochRow) -> tuple[float, float]:
        loss = row.validation_loss if math.isfinite(row.validation_loss) else math.inf
        accuracy = row.validation_accuracy or 0.0
        return (-loss, accuracy) if self.by == "validation_loss" else (accuracy, -loss)
