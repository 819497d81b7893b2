"""A running mean of the weights, often better than the last weights (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class RunningMean:
    """After each step: mean ← decay × mean + (1 − decay) × weights.

    The decay starts at 1/11 and rises to its value, so that the first steps do not weigh on the mean for long.
    Buffers that are not floating point are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = model.state_dict()
        self.mean = {name: value.detach().clone() for name, value in self.weights.items()}
        self.floating = [name for name, value in self.weights.items() if value.is_floating_point()]
        self.others = [name for name in self.weights if name not in set(self.floating)]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        means = [self.mean[name] for name in self.floating]
        torch._foreach_lerp_(means, [self.weights[name] for name in self.floating], 1 - decay)
        for name in self.others:
            self.mean[name].copy_(self.weights[name])

    def restore(self, mean: Mapping[str, Tensor], steps: int) -> None:
        for name, value in self.mean.items():
            value.copy_(mean[name])
        self.steps = steps
