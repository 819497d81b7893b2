"""Optimizers by name, in the fused form where PyTorch has one. Biases and norm weights are not decayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from danlu.base.settings import TrainingSettings
from danlu.training import OPTIMIZERS
from danlu.training.muon import Muon

Groups = list[dict[str, Any]]
MUON_ADAMW_SHARE = 0.1


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The named optimizer over the parameters that are trained; each group remembers its rate as `initial_lr`."""
    optimizer: torch.optim.Optimizer = OPTIMIZERS.load(settings.optimizer)(model, settings)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return optimizer


def sgd(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    nesterov = settings.nesterov and settings.momentum > 0
    return torch.optim.SGD(
        _groups(model, settings), lr=_rate(settings), momentum=settings.momentum, nesterov=nesterov, fused=True
    )


def adam(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    return torch.optim.Adam(_groups(model, settings), lr=_rate(settings), fused=True)


def adamw(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(_groups(model, settings), lr=_rate(settings), fused=True)


def rmsprop(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(_groups(model, settings), lr=_rate(settings), momentum=settings.momentum)


def muon(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Muon for hidden matrices and kernels; AdamW at a tenth of the rate for the rest.

    The rest: the first convolution, which sees pixels, embeddings, the last linear layer, biases and norms.
    Convolutions without a bias have batch norm behind them, and are renormalised instead of decayed.
    """
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d))]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    outer = [m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    left_out = {id(m.weight) for m in (*outer, *linear[-1:], *convolutions[:1])}
    normed = {id(m.weight) for m in convolutions if m.bias is None} - left_out
    parameters = [p for p in model.parameters() if p.requires_grad]
    hidden = [p for p in parameters if p.ndim >= 2 and id(p) not in left_out]
    taken = {id(p) for p in hidden}
    rate, decay = _rate(settings), _decay(settings)
    groups: Groups = [
        {"params": [p for p in hidden if id(p) not in normed], "weight_decay": decay},
        {"params": [p for p in hidden if id(p) in normed], "renormalize": True},
    ]
    groups = [group for group in groups if group["params"]]
    members: list[torch.optim.Optimizer] = []
    if groups:
        members.append(Muon(groups, lr=rate, momentum=settings.momentum, nesterov=settings.nesterov))
    rest = [p for p in parameters if id(p) not in taken]
    members.append(torch.optim.AdamW(rest, lr=rate * MUON_ADAMW_SHARE, weight_decay=decay, fused=True))
    return Together(members)


class Together(torch.optim.Optimizer):
    """Several optimizers over disjoint parameters that step as one."""

    def __init__(self, members: list[torch.optim.Optimizer]) -> None:
        self.members = members
        super().__init__([p for m in members for g in m.param_groups for p in g["params"]], {})
        self.param_groups = [group for member in members for group in member.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for member in self.members:
            member.step()

    def state_dict(self) -> dict[str, Any]:
        """The members' states with parameters numbered through, in PyTorch's usual form."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        offset = 0
        for member in self.members:
            part = member.state_dict()
            state.update({offset + index: values for index, values in part["state"].items()})
            groups += [{**g, "params": [offset + i for i in g["params"]]} for g in part["param_groups"]]
            offset += sum(len(g["params"]) for g in part["param_groups"])
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        groups = list(state_dict["param_groups"])
        offset = 0
        for member in self.members:
            own, groups = groups[: len(member.param_groups)], groups[len(member.param_groups) :]
            count = sum(len(g["params"]) for g in own)
            states = state_dict["state"]
            member.load_state_dict(
                {
                    "state": {i - offset: states[i] for i in range(offset, offset + count) if i in states},
                    "param_groups": [{**g, "params": [i - offset for i in g["params"]]} for g in own],
                }
            )
            offset += count
        self.param_groups = [group for member in self.members for group in member.param_groups]


def _rate(settings: TrainingSettings) -> float:
    return float(settings.learning_rate)


def _decay(settings: TrainingSettings) -> float:
    return float(settings.weight_decay)


def _groups(model: nn.Module, settings: TrainingSettings) -> Groups:
    """Matrices and kernels with weight decay, vectors and scalars without; one group when there is no decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = _decay(settings)
    if not decay:
        return [{"params": parameters, "weight_decay": 0.0}]
    matrices: list[Tensor] = [p for p in parameters if p.ndim > 1]
    vectors: list[Tensor] = [p for p in parameters if p.ndim <= 1]
    groups: Groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
