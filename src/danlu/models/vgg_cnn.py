"""Blocks of two 3 × 3 convolutions with batch norm, pooling between them (after Simonyan and Zisserman, 2015)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import nn

from danlu.models.shapes import ImageShape, ModelOptions


class Options(ModelOptions):
    widths: list[Annotated[int, Field(ge=1)]] = [32, 64, 128]
    hidden_size: int = Field(256, ge=1)
    feature_dropout: float = Field(0.25, ge=0, lt=1)
    dropout: float = Field(0.5, ge=0, lt=1)


def build(example_shape: ImageShape, num_classes: int, options: Options) -> nn.Module:
    shrink = 2 ** len(options.widths)
    example_shape.require(shrink, "vgg_cnn")
    layers: list[nn.Module] = []
    for channels_in, channels_out in pairwise((example_shape.channels, *options.widths)):
        for channels in (channels_in, channels_out):
            layers += [
                nn.Conv2d(channels, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
            ]
        layers[-1:] = [nn.MaxPool2d(2), nn.ReLU(), nn.Dropout2d(options.feature_dropout)]  # pooled first: less work
    flat = options.widths[-1] * (example_shape.height // shrink) * (example_shape.width // shrink)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(flat, options.hidden_size),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden_size, num_classes),
    )
