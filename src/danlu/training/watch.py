"""What some steps look like from inside: each layer's gradients, weights and activations, and where the time goes.

A step that is looked at takes about twice as long, so as many are as cost at most 2 % of the time: the first one
always, then at most four an epoch. Looking changes no bit of the training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danlu.data.batches import Batch
from danlu.training.first_step import first_step
from danlu.training.step import Stepped

SHARE = 0.02
AN_EPOCH = 4
FEWEST_EXAMPLES = 8  # below, a unit may well be silent by chance
SILENT = 1e-6
CHANNELS_FIRST = (nn.Conv1d, nn.BatchNorm1d)
PHASES = ("loading", "forward", "backward", "update")


class Watch:
    """Chooses the steps to look at and keeps a row of each, until `take` is called.

    The loop calls `begin` when the batches of a step are there, `end` after its update, and `wait` when the next
    batches are asked for; `Step` calls `gradients` before they are clipped and `mark` at the end of each phase.
    `first` is what the first step of a training told (`first_step`), until it is taken.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, steps_per_epoch: int, *, hears: bool = True
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.gap = max(1, steps_per_epoch // AN_EPOCH)
        self.layers = [Layer(name, module) for name, module in model.named_modules() if _is_shown(module)]
        self.hears = hears
        self.on_processor = next(model.parameters()).device.type == "cpu"
        self.rows: list[dict[str, Any]] = []
        self.first: dict[str, Any] | None = None
        self.look: Look | None = None
        self.next_step = 0
        self.spent, self.looks, self.look_seconds, self.cost = 0.0, 0, 0.0, 0.0
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.timed = 0
        self.is_timed = True
        self.started = self.last = time.perf_counter()

    def wait(self) -> None:
        self.last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """The time since the last mark belongs to `phase`. A GPU is waited for where its time is measured."""
        if self.is_timed:
            if not self.on_processor:
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.seconds[phase] += now - self.last
            self.last = now

    def begin(self, step: int, epoch: int) -> None:
        """`step`: steps done before this one."""
        self.mark("loading")
        if step < self.next_step or not self._can_pay():
            return
        started = time.perf_counter()
        self.usual = dict(self.seconds)
        self.look = Look(self.model, self.layers, step, epoch, hears=self.hears)
        self.look_seconds = time.perf_counter() - started

    def gradients(self, scale: float = 1.0) -> None:
        """They are all there, `scale` times too large."""
        if self.look:
            started = time.perf_counter()
            self.look.see_gradients(scale)
            self.look_seconds += time.perf_counter() - started

    def end(self, stepped: Stepped, window: Sequence[Batch], learning_rate: float) -> None:
        self.mark("update")
        look, self.look = self.look, None
        if look is None:
            self.timed += self.is_timed
            self.is_timed = self.on_processor
            return
        started = time.perf_counter()
        row = look.row(stepped, window, learning_rate)
        row["milliseconds"], row["steps_timed"] = self._milliseconds(), self.timed
        self.rows.append(row)
        self.seconds, self.timed = dict.fromkeys(PHASES, 0.0), 0
        self.is_timed = True  # on a GPU: the step after this one
        self.next_step = look.step + self.gap
        self.looks += 1
        self.spent += self.look_seconds + time.perf_counter() - started + look.heard_seconds
        self.cost = self.spent / self.looks
        if look.step == 0:
            started = time.perf_counter()
            self.first = first_step(self.model, self.optimizer, window[0], stepped, look.changes)
            self.spent += time.perf_counter() - started

    def take(self) -> list[dict[str, Any]]:
        """The rows not taken yet."""
        rows, self.rows = self.rows, []
        return rows

    def _can_pay(self) -> bool:
        """Whether one more look like those so far keeps within the share; the first one does always."""
        return not self.looks or self.spent + self.cost <= SHARE * (time.perf_counter() - self.started)

    def _milliseconds(self) -> dict[str, float]:
        """Of a step, the mean over those since the last look; before the first one, of this step alone."""
        steps = {phase: max(1, self.timed) + (phase == "loading" and self.timed > 0) for phase in PHASES}
        taken = self.usual if self.timed else self.seconds
        return {phase: round(1e3 * taken[phase] / steps[phase], 4) for phase in PHASES}


@dataclass(frozen=True)
class Layer:
    """A module with parameters of its own, or an activation function."""

    name: str
    module: nn.Module

    @property
    def kind(self) -> str:
        return type(self.module).__name__

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.module.parameters(recurse=False) if parameter.is_floating_point()]


class Look:
    """One step, seen from the inside."""

    def __init__(self, model: nn.Module, layers: Sequence[Layer], step: int, epoch: int, *, hears: bool) -> None:
        self.layers = layers
        self.step, self.epoch = step, epoch
        self.heard: dict[str, Tensor] = {}
        self.heard_seconds = 0.0
        self.parameters = [parameter for layer in layers for parameter in layer.parameters()]
        self.before = [parameter.detach().clone() for parameter in self.parameters]
        self.gradient_norms: list[Tensor | None] = [None] * len(self.parameters)
        self.changes: dict[int, tuple[float | None, float]] = {}
        self.handles = [layer.module.register_forward_hook(self._hear(layer.name)) for layer in layers if hears]

    def _hear(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            started = time.perf_counter()
            out = output[0] if isinstance(output, tuple) else output
            if isinstance(out, Tensor) and out.is_floating_point() and out.ndim > 1:
                self.heard[name] = _heard(module, out.detach())
            self.heard_seconds += time.perf_counter() - started

        return hook

    @torch.no_grad()
    def see_gradients(self, scale: float) -> None:
        there = [(place, p.grad) for place, p in enumerate(self.parameters) if p.grad is not None]
        norms = torch._foreach_norm([gradient for _, gradient in there]) if there else []
        for (place, _), norm in zip(there, norms, strict=True):
            self.gradient_norms[place] = norm.float() / scale

    @torch.no_grad()
    def row(self, stepped: Stepped, window: Sequence[Batch], learning_rate: float) -> dict[str, Any]:
        for handle in self.handles:
            handle.remove()
        weights = _norms(self.before)
        moved = _norms(torch._foreach_sub([p.detach() for p in self.parameters], self.before))
        gradients = _numbers(self.gradient_norms)
        self.changes = {
            id(parameter): (gradient, change)
            for parameter, gradient, change in zip(self.parameters, gradients, moved, strict=True)
        }
        place, rows = 0, []
        for layer in self.layers:
            count = len(layer.parameters())
            own = slice(place, place + count)
            place += count
            rows.append(
                {
                    "name": layer.name or layer.kind,
                    "kind": layer.kind,
                    "parameters": sum(parameter.numel() for parameter in self.parameters[own]),
                    **_layer_norms(gradients[own], weights[own], moved[own]),
                    **self._activations(layer.name),
                }
            )
        labels = torch.cat([labels for _, labels in window])
        return {
            "step": self.step,
            "epoch": self.epoch,
            "loss": _number(float(stepped.loss)),
            "learning_rate": learning_rate,
            "gradient_norm": _joined(gradients),
            "labels": _counts(labels),
            "layers": rows,
        }

    def _activations(self, name: str) -> dict[str, float | None]:
        if name not in self.heard:
            return {"activation_mean": None, "activation_std": None, "dead_share": None}
        mean, std, dead = self.heard[name].tolist()
        return {
            "activation_mean": _number(mean),
            "activation_std": _number(std),
            "dead_share": _number(dead),  # NaN where the batch is too small to say
        }


def _is_shown(module: nn.Module) -> bool:
    is_activation = type(module).__module__ == "torch.nn.modules.activation" and not list(module.children())
    return is_activation or any(True for _ in module.parameters(recurse=False))


def _heard(module: nn.Module, out: Tensor) -> Tensor:
    """(mean, standard deviation, share of units that say the same to every example); units may be channels."""
    out = out.float()
    variance, mean = torch.var_mean(out, correction=0)
    if len(out) < FEWEST_EXAMPLES:
        dead = torch.full_like(mean, math.nan)
    else:
        unit = 1 if out.ndim == 4 or isinstance(module, CHANNELS_FIRST) else out.ndim - 1
        others = tuple(dimension for dimension in range(out.ndim) if dimension != unit)
        dead = (out.amax(others) - out.amin(others) <= SILENT).float().mean()
    return torch.stack([mean, variance.sqrt(), dead])


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    if not tensors:
        return []
    norms: list[float] = torch.stack([norm.float() for norm in torch._foreach_norm(list(tensors))]).tolist()
    return norms


def _numbers(values: Sequence[Tensor | None]) -> list[float | None]:
    """Read from the device at once; None where there is none."""
    there = [value for value in values if value is not None]
    read = iter(torch.stack(there).tolist() if there else [])
    return [None if value is None else next(read) for value in values]


def _joined(norms: Sequence[float | None]) -> float | None:
    """The norm over all parts; None where no part has one, or it is not a number."""
    there = [norm for norm in norms if norm is not None]
    return _number(math.sqrt(math.fsum(norm * norm for norm in there))) if there else None


def _layer_norms(
    gradients: Sequence[float | None], weights: Sequence[float], moved: Sequence[float]
) -> dict[str, float | None]:
    weight, change = _joined(weights), _joined(moved)
    ratio = change / weight if weight and change is not None else None
    return {"gradient_norm": _joined(gradients), "weight_norm": weight, "update_ratio": ratio}


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _counts(labels: Tensor) -> dict[str, int] | None:
    """How often each class stands in the batches of the step; None where labels are no classes."""
    if labels.is_floating_point() or labels.ndim != 1:
        return None
    values, counts = torch.unique(labels, return_counts=True)
    return {str(value): count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}
