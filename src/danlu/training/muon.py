"""Muon: momentum whose directions are made equally long, for matrices and convolution kernels (Jordan et al., 2024).

PyTorch's own takes matrices alone and orthogonalises in bfloat16, which ends the process on some processors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: singular values end between about 0.7 and 1.2
STEPS = 5


class Muon(torch.optim.Optimizer):
    """Each step adds `learning rate × √max(1, rows / columns) × orthogonalised momentum` to a matrix.

    A kernel (out, in, height, width) counts as a matrix with a row for each output channel. Groups with
    `renormalize` bring a kernel to the norm √rows before each step: right where batch norm takes its scale out, and
    the step is then the same share of the kernel all along.

    >>> weight = torch.nn.Parameter(torch.eye(2))
    >>> weight.grad = torch.tensor([[3.0, 0.0], [0.0, 0.1]])
    >>> Muon([weight], lr=0.1).step()
    >>> weight.diagonal().round(decimals=1).tolist()
    [0.8999999761581421, 0.8999999761581421]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        renormalize: bool = False,
    ) -> None:
        options = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "renormalize": renormalize}
        super().__init__(params, {"lr": lr, **options})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, group)

    def _step_one(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient: Tensor = parameter.grad  # type: ignore[assignment]
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        moment = state["momentum"]
        moment.mul_(group["momentum"]).add_(gradient)
        direction = gradient.add(moment, alpha=group["momentum"]) if group["nesterov"] else moment
        rows = len(parameter)
        update = orthogonalize(direction.reshape(rows, -1)).view(parameter.shape)
        columns = parameter[0].numel()
        if group["renormalize"]:
            parameter.mul_(rows**0.5 / parameter.norm().clamp(min=1e-7))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1, by five Newton-Schulz steps."""
    a, b, c = COEFFICIENTS
    made = matrix / (matrix.norm() + 1e-7)
    is_tall = made.shape[0] > made.shape[1]
    if is_tall:
        made = made.T
    for _ in range(STEPS):
        square = made @ made.T
        made = torch.addmm(made, torch.addmm(square, square, square, beta=b, alpha=c), made, beta=a)
    result: Tensor = made.T if is_tall else made
    return result
