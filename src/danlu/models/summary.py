"""A model as a table: layer, output shape, parameters, multiply-adds an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danlu.models.shapes import ExampleShape, ImageShape


@dataclass(frozen=True)
class LayerRow:
    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """`macs`: multiply-adds of linear, convolution and LSTM layers for one example."""

    rows: tuple[LayerRow, ...]
    parameters: int

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        lines = [f"{'layer':<24}{'kind':<16}{'output':<20}{'parameters':>12}{'multiply-adds':>16}"]
        for row in self.rows:
            shape = " × ".join(str(n) for n in row.output_shape)
            lines.append(f"{row.name:<24}{row.kind:<16}{shape:<20}{row.parameters:>12,}{row.macs:>16,}")
        lines.append(f"{'all':<60}{self.parameters:>12,}{self.macs:>16,}")
        return "\n".join(lines)


def summarize(model: nn.Module, example_shape: ExampleShape) -> Summary:
    """Run one example of zeros (images) or ones (texts) through the model and count.

    >>> from danlu.models.build import build_model
    >>> summarize(build_model("mlp", ImageShape(1, 28, 28), 10), ImageShape(1, 28, 28)).parameters
    235146
    """
    device = next(model.parameters()).device
    if isinstance(example_shape, ImageShape):
        example = torch.zeros(1, *example_shape, device=device)
    else:
        example = torch.ones(1, example_shape.max_length, dtype=torch.int64, device=device)
    rows: list[LayerRow] = []
    handles = []

    def watch(name: str, layer: nn.Module) -> None:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            out = output[0] if isinstance(output, tuple) else output
            own = sum(p.numel() for p in module.parameters())
            rows.append(LayerRow(name, type(module).__name__, tuple(out.shape[1:]), own, _macs(module, inputs[0], out)))

        handles.append(layer.register_forward_hook(note))

    for name, layer in model.named_modules():
        if name and not list(layer.children()):
            watch(name, layer)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        model(example)
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return Summary(tuple(rows), sum(p.numel() for p in model.parameters()))


def _macs(module: nn.Module, inputs: Tensor, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features * output[0].numel()
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return module.weight[0].numel() * output[0].numel()
    if isinstance(module, nn.LSTM):
        return inputs.shape[1] * sum(p.numel() for p in module.parameters() if p.ndim == 2)
    return 0
