"""Trying a module without leaving a trace: copies of it, and random generators that are put back."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from danlu.base.errors import ModelError

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


def copied(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the module. Raises `ModelError` for one that cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}",
            hint="keep only parameters, buffers and plain values as attributes of the module",
        ) from error


def same_kind(optimizer: torch.optim.Optimizer, model: nn.Module) -> MakeOptimizer:
    """What makes an optimizer like this one, over the same parameters of a copy of `model`, without its moments.

    Raises `ModelError` when the optimizer steps parameters that are not the module's.
    """
    places = {id(parameter): place for place, parameter in enumerate(model.parameters())}
    stepped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    foreign = sum(id(parameter) not in places for parameter in stepped)
    if foreign:
        raise ModelError(
            f"{foreign:,} of the {len(stepped):,} parameters of the optimizer are not the module's",
            hint="make it after the module: `torch.optim.AdamW(model.parameters())`",
        )

    def make(fresh: nn.Module) -> torch.optim.Optimizer:
        others = list(fresh.parameters())
        memo: dict[int, Any] = {id(parameter): others[places[id(parameter)]] for parameter in stepped}
        made: torch.optim.Optimizer = copy.deepcopy(optimizer, memo)
        for name in vars(optimizer).keys() - vars(made).keys():  # PyTorch copies no attribute it does not know
            setattr(made, name, copy.deepcopy(getattr(optimizer, name), memo))
        for one in (made, *getattr(made, "members", ())):
            one.state.clear()
        for group in made.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return made

    return make


@contextmanager
def untouched_generators(loader: Any = None) -> Iterator[None]:
    """Put the generators of PyTorch, NumPy and Python back at the end, and that of a `DataLoader` too."""
    own = [
        found
        for holder in (loader, getattr(loader, "sampler", None))
        if isinstance(found := getattr(holder, "generator", None), torch.Generator)
    ]
    before = [generator.get_state() for generator in own]
    plain, numbers = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numbers)
        for generator, state in zip(own, before, strict=True):
            generator.set_state(state)
