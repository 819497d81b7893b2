"""A running mean of the weights, often better than the last weights (Polyak and Juditsky, 1992)."""

from __future__ import annotations

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
        self.mean = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        means: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                means.append(self.mean[name])
                values.append(value)
            else:
                self.mean[name].copy_(value)
        torch._foreach_lerp_(means, values, 1 - decay)
