"""Schedules: `(settings, total_steps, steps_per_epoch) -> schedule`; `schedule(step)` is the factor of the rate."""

from __future__ import annotations

import math
from typing import Any

from danlu.base.settings import TrainingSettings
from danlu.training import SCHEDULES

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1e-4


class Schedule:
    """The learning rate's factor at a step, 0 or more; pure, unless `observe` is overridden."""

    def __init__(self, settings: TrainingSettings, total_steps: int, steps_per_epoch: int) -> None:
        self.settings = settings
        self.total_steps = max(1, total_steps)
        self.steps_per_epoch = max(1, steps_per_epoch)

    def __call__(self, step: int) -> float:
        raise NotImplementedError

    def observe(self, validation_loss: float) -> None:
        """Told once an epoch."""

    def state(self) -> dict[str, Any]:
        """What must be saved to go on; empty for pure schedules."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""


class constant(Schedule):  # noqa: N801 (named as in the registry)
    def __call__(self, step: int) -> float:
        return 1.0


class step(Schedule):  # noqa: N801
    def __call__(self, step: int) -> float:
        drops = step // (self.steps_per_epoch * self.settings.step_epochs)
        return float(self.settings.step_factor**drops)


class cosine(Schedule):  # noqa: N801
    def __call__(self, step: int) -> float:
        return _half_cosine(step / self.total_steps)


class warmup_cosine(Schedule):  # noqa: N801
    def __call__(self, step: int) -> float:
        rising = float(self.settings.warmup) * self.total_steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return _half_cosine((step - rising) / max(1.0, self.total_steps - rising))


class warmup_linear(Schedule):  # noqa: N801
    def __call__(self, step: int) -> float:
        rising = float(self.settings.warmup) * self.total_steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return max(0.0, 1 - (step - rising) / max(1.0, self.total_steps - rising))


class one_cycle(Schedule):  # noqa: N801
    def __call__(self, step: int) -> float:
        rising = max(1.0, float(self.settings.warmup) * self.total_steps)
        if step < rising:
            return 1 - (1 - ONE_CYCLE_START) * _half_cosine(step / rising)
        falling = max(1.0, self.total_steps - 1 - rising)
        return ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _half_cosine(min(1.0, (step - rising) / falling))


class plateau(Schedule):  # noqa: N801
    """Drops after `plateau_patience` epochs without a validation loss lower than the lowest so far."""

    def __init__(self, settings: TrainingSettings, total_steps: int, steps_per_epoch: int) -> None:
        super().__init__(settings, total_steps, steps_per_epoch)
        self.factor = 1.0
        self.lowest = math.inf
        self.waited = 0

    def __call__(self, step: int) -> float:
        return self.factor

    def observe(self, validation_loss: float) -> None:
        if validation_loss < self.lowest:
            self.lowest, self.waited = validation_loss, 0
            return
        self.waited += 1
        if self.waited > self.settings.plateau_patience:
            self.factor *= self.settings.plateau_factor
            self.waited = 0

    def state(self) -> dict[str, Any]:
        lowest = None if math.isinf(self.lowest) else self.lowest
        return {"factor": self.factor, "lowest": lowest, "waited": self.waited}

    def load_state(self, state: dict[str, Any]) -> None:
        self.factor, self.waited = state["factor"], state["waited"]
        self.lowest = math.inf if state["lowest"] is None else state["lowest"]


def build_schedule(settings: TrainingSettings, total_steps: int, steps_per_epoch: int) -> Schedule:
    schedule: Schedule = SCHEDULES.load(settings.schedule)(settings, total_steps, steps_per_epoch)
    return schedule


def _half_cosine(share: float) -> float:
    """From 1 at share 0 to 0 at share 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share))))
