"""Three 3 × 3 convolutions, each with ReLU and 2 × 2 max pooling, then one hidden layer."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import nn

from danlu.models.shapes import ImageShape, ModelOptions

WIDTHS = (16, 32, 64)


class Options(ModelOptions):
    hidden_size: int = Field(512, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)


def build(example_shape: ImageShape, num_classes: int, options: Options) -> nn.Module:
    example_shape.require(8, "simple_cnn")
    layers: list[nn.Module] = []
    for channels_in, channels_out in pairwise((example_shape.channels, *WIDTHS)):
        layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
    flat = WIDTHS[-1] * (example_shape.height // 8) * (example_shape.width // 8)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(flat, options.hidden_size),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden_size, num_classes),
    )
