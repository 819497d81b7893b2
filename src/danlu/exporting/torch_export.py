"""`torch.export`: the graph and its weights for another PyTorch, Python or C++ (AOTInductor), without danlu."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported, forget_lstm_kernel
from danlu.exporting.quiet import silence

FILE = "model.pt2"


class ProgramEngine:
    """A loaded graph as a function from inputs to probabilities."""

    def __init__(self, path: Path) -> None:
        with silence():
            self.module = torch.export.load(path).module()

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """As those of the trained model."""
        with torch.inference_mode():
            scores, _ = self.module(torch.from_numpy(inputs))
        answered: np.ndarray = scores.double().softmax(1).numpy()
        return answered


def write(exported: Exported, folder: Path, name: str, classes: tuple[str, ...]) -> ProgramEngine:
    """`model.pt2`, any batch size and any text length. Raises `ModelError` where it cannot be exported."""
    from torch.export._patches import register_lstm_while_loop_decomposition  # as PyTorch's exporter to ONNX does

    axes = {0: torch.export.Dim.DYNAMIC}
    if exported.recipe is None:
        axes[1] = torch.export.Dim.DYNAMIC
    forget_lstm_kernel()
    try:
        with silence(), torch.no_grad(), register_lstm_while_loop_decomposition():
            program = torch.export.export(
                exported, (exported.example(),), dynamic_shapes={"inputs": axes}, strict=False
            )
            for node in program.graph.nodes:  # the lines of code it comes from tell the folders of this machine
                node.meta.pop("stack_trace", None)
            torch.export.save(program, folder / FILE)
    except Exception as error:  # the exporter raises many types
        raise ModelError(f"PyTorch cannot export the model: {str(error).strip().splitlines()[0]}") from error
    return ProgramEngine(folder / FILE)
