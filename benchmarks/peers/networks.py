"""The networks of the throughput benchmarks in plain PyTorch, with PyTorch's own first weights."""

from __future__ import annotations

from collections.abc import Sequence

import contract
from torch import nn


def build(network: str, shape: Sequence[int]) -> nn.Sequential:
    """`shape`: (channels, height, width) of an image."""
    return {"mlp": _mlp, "digit_cnn": _digit_cnn}[network](*shape)


def _mlp(channels: int, height: int, width: int) -> nn.Sequential:
    first, second = contract.WIDTHS
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, contract.CLASSES),
    )


def _digit_cnn(channels: int, height: int, width: int) -> nn.Sequential:
    first, second = contract.CHANNELS
    return nn.Sequential(
        nn.Conv2d(channels, first, 3),
        nn.ReLU(),
        nn.Conv2d(first, second, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout2d(contract.FEATURE_DROPOUT),
        nn.Flatten(),
        nn.Linear(second * ((height - 4) // 2) * ((width - 4) // 2), contract.HIDDEN_SIZE),
        nn.ReLU(),
        nn.Dropout(contract.DROPOUT),
        nn.Linear(contract.HIDDEN_SIZE, contract.CLASSES),
    )
