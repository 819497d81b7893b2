"""fp32, bf16 or fp16 for the forward and backward pass; weights and optimizer stay fp32 (Micikevicius et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def widened(values: Tensor) -> Tensor:
    """Half-width numbers as float32; others as they are."""
    return values.float() if values.dtype in DTYPES.values() else values


class Precision:
    """Autocast for the forward pass and, for fp16, the scaler that keeps small gradients from becoming 0."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.dtype = DTYPES.get(name)
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def forward(self) -> AbstractContextManager[Any]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    @property
    def scale(self) -> float:
        """How many times too large gradients are before `step`."""
        return float(self.scaler.get_scale()) if self.scaler else 1.0

    def step(
        self, optimizer: torch.optim.Optimizer, parameters: Callable[[], Any], clip_norm: float | None
    ) -> Tensor | None:
        """Gradients in their own scale → clipped by their norm over all parameters, which is returned → step."""
        norm = None
        if clip_norm is not None:
            if self.scaler:
                self.scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(parameters(), clip_norm)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)  # leaves a step with an infinite gradient out
            self.scaler.update()
        return norm

    def state(self) -> dict[str, Any]:
        return self.scaler.state_dict() if self.scaler else {}

    def load_state(self, state: dict[str, Any]) -> None:
        if self.scaler:
            self.scaler.load_state_dict(state)
