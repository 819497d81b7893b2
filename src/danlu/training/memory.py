"""How activations lie in memory, and how many of them are kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from danlu.base.errors import ConfigError


@contextmanager
def channels_last_gradients(model: nn.Module) -> Iterator[None]:
    """Inside the block gradients that come back through `nn.Flatten` are put in the order of what went in.

    They come back with channels first; a pooling behind them would copy its whole input into that order.
    """

    def reorder(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        images = inputs[0]
        if images.requires_grad and images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last):
            images.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))

    handles = [m.register_forward_pre_hook(reorder) for m in model.modules() if isinstance(m, nn.Flatten)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def checkpointed(model: nn.Module) -> Callable[[Any], Tensor]:
    """A forward function that keeps the activations between about √n stretches of n layers (Chen et al., 2016).

    Raises `ConfigError` for a model that is not an `nn.Sequential`, where nobody knows the stretches.
    """
    if not isinstance(model, nn.Sequential):
        raise ConfigError(
            "`training.gradient_checkpointing` works on chains of layers (nn.Sequential),"
            f" this is {type(model).__name__}",
            hint="leave it out, or set a smaller `training.batch_size` with `training.accumulation_steps`",
        )
    layers = list(model)
    length = max(1, round(len(layers) ** 0.5))
    stretches = [nn.Sequential(*layers[start : start + length]) for start in range(0, len(layers), length)]

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _statistics_stay(model)

    def forward(inputs: Tensor) -> Tensor:
        if not model.training:
            scores: Tensor = model(inputs)
            return scores
        for stretch in stretches:
            inputs = checkpoint(stretch, inputs, use_reentrant=False, context_fn=contexts)
        return inputs

    return forward


@contextmanager
def _statistics_stay(model: nn.Module) -> Iterator[None]:
    """Batch norm sees every batch twice here; its running statistics must count it once."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [
        (norm, norm.momentum, norm.num_batches_tracked.clone())
        for norm in norms
        if norm.num_batches_tracked is not None
    ]
    for norm, _, _ in before:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
