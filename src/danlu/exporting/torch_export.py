"""`torch.export`: the graph and its weights for another PyTorch, Python or C++ (AOTInductor), without danlu."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported, LoadedEngine, forget_lstm_kernel
from danlu.exporting.quiet import silence

FILE = "model.pt2"
ADDED = 8


def write(exported: Exported, folder: Path, name: str, classes: tuple[str, ...]) -> LoadedEngine:
    """`model.pt2`, any batch size and any text length. Raises `ModelError` where it cannot be exported."""
    from torch.export._patches import register_lstm_while_loop_decomposition  # as PyTorch's exporter to ONNX does

    forget_lstm_kernel()
    try:
        with silence(), torch.no_grad(), register_lstm_while_loop_decomposition():
            module = _AnyLength(exported) if exported.recipe is None else exported
            program = torch.export.export(
                module, (exported.example(),), dynamic_shapes={"inputs": exported.open_axes}, strict=False
            )
            for node in program.graph.nodes:  # the lines of code it comes from tell the folders of this machine
                node.meta.pop("stack_trace", None)
            torch.export.save(program, folder / FILE)
    except Exception as error:  # the exporter raises many types
        raise ModelError(f"PyTorch cannot export the model: {str(error).strip().splitlines()[0]}") from error
    with silence():
        return LoadedEngine(torch.export.load(folder / FILE).module())


class _AnyLength(nn.Module):
    """Padding added to every text: models look at two or more tokens at a time, and what is left of a text of as many
    has a length of 1 or 0, for which PyTorch's program would be another one and is refused."""

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self.exported = exported

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.exported(functional.pad(inputs, (0, ADDED)))
        return found
