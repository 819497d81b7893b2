"""Two 3 × 3 convolutions without padding and one pooling, as in PyTorch's MNIST example."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from danlu.models.shapes import ImageShape, ModelOptions


class Options(ModelOptions):
    hidden_size: int = Field(128, ge=1)
    feature_dropout: float = Field(0.25, ge=0, lt=1)
    dropout: float = Field(0.5, ge=0, lt=1)


def build(example_shape: ImageShape, num_classes: int, options: Options) -> nn.Module:
    example_shape.require(6, "digit_cnn")
    flat = 64 * ((example_shape.height - 4) // 2) * ((example_shape.width - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(example_shape.channels, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),  # after the pooling: the same numbers from a quarter of the work
        nn.Dropout2d(options.feature_dropout),
        nn.Flatten(),
        nn.Linear(flat, options.hidden_size),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden_size, num_classes),
    )
