"""From a name and options to a module with its first weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from danlu.base.errors import ConfigError
from danlu.base.registry import nearest_names
from danlu.models import MODELS
from danlu.models.shapes import ExampleShape, ImageShape, ModelOptions


def build_model(
    name: str,
    example_shape: ExampleShape,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    *,
    initialization: str = "kaiming",
    seed: int = 0,
) -> nn.Module:
    """A registered architecture for examples of this shape; equal seeds give equal weights.

    Raises `ConfigError` for a wrong name, option or kind of data.

    >>> model = build_model("mlp", ImageShape(1, 28, 28), 10, {"widths": [128]})
    >>> sum(p.numel() for p in model.parameters())
    101770
    """
    module = MODELS.load(name)
    check_kind(name, example_shape)
    checked = check_options(name, module.Options, options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = module.build(example_shape, num_classes, checked)
        initialize(model, initialization)
    return model


def check_kind(name: str, example_shape: ExampleShape) -> None:
    kind = "images" if isinstance(example_shape, ImageShape) else "texts"
    if kind not in MODELS.members[name].kinds:
        fitting = ", ".join(MODELS.names(kind))
        raise ConfigError(f"the model `{name}` does not read {kind}", hint=f"models for {kind}: {fitting}")


def check_options(name: str, options_type: type[ModelOptions], options: Mapping[str, Any]) -> ModelOptions:
    """Options typed by the model's own class, all faults at once."""
    try:
        return options_type.model_validate(dict(options))
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = str(item["loc"][0])
            if item["type"] == "extra_forbidden":
                what = f"unknown option of {name}; {nearest_names(key, options_type.model_fields)}"
            else:
                what = f"{item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"
            problems.append((f"model.{key}", what))
        raise ConfigError.of_problems("the settings", problems, hint="`danlu list models` shows the options") from error


def initialize(model: nn.Module, scheme: str) -> None:
    """Set the first weights of linear and convolution layers.

    kaiming: He et al., 2015, fan-in, for ReLU; xavier: Glorot and Bengio, 2010; orthogonal: Saxe et al., 2014;
    pytorch: left as the layers made them.
    """
    if scheme == "pytorch":
        return
    for module in model.modules():
        if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            continue
        if scheme == "kaiming":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif scheme == "xavier":
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    for module in head:  # the scores start small, so that the first loss is near log(classes)
        module.weight.data.mul_(0.1)
