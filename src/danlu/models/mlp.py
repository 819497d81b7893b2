"""Fully connected layers over flattened pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from danlu.models.shapes import ImageShape, ModelOptions

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Options(ModelOptions):
    widths: list[Annotated[int, Field(ge=1)]] = [256, 128]
    dropout: float = Field(0.2, ge=0, lt=1)
    batch_norm: bool = False
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "relu"


def build(example_shape: ImageShape, num_classes: int, options: Options) -> nn.Module:
    sizes = [example_shape.channels * example_shape.height * example_shape.width, *options.widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for size_in, size_out in pairwise(sizes):
        layers.append(nn.Linear(size_in, size_out))
        if options.batch_norm:
            layers.append(nn.BatchNorm1d(size_out))
        layers.append(ACTIVATIONS[options.activation]())
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))
