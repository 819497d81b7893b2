"""TorchScript, for PyTorch before 2.x and for mobile. PyTorch no longer develops it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported
from danlu.exporting.quiet import silence

FILE = "model.torchscript.pt"


class ScriptEngine:
    """A loaded TorchScript file as a function from inputs to probabilities."""

    def __init__(self, path: Path) -> None:
        with silence():
            self.module = torch.jit.load(path)

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """As those of the trained model."""
        with torch.inference_mode():
            scores, _ = self.module(torch.from_numpy(inputs))
        answered: np.ndarray = scores.double().softmax(1).numpy()
        return answered


def write(exported: Exported, folder: Path, name: str, classes: tuple[str, ...]) -> ScriptEngine:
    """`model.torchscript.pt`, traced. Raises `ModelError` where it cannot be."""
    try:
        with silence(), torch.no_grad():
            traced = torch.jit.freeze(torch.jit.trace(exported, exported.example(), check_trace=False))
            traced.save(str(folder / FILE))
    except Exception as error:
        raise ModelError(f"PyTorch cannot trace the model: {str(error).strip().splitlines()[0]}") from error
    return ScriptEngine(folder / FILE)
