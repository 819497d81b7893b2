"""TorchScript, for PyTorch before 2.x and for mobile. PyTorch no longer develops it."""

from __future__ import annotations

from pathlib import Path

import torch

from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported, LoadedEngine
from danlu.exporting.quiet import silence

FILE = "model.torchscript.pt"


def write(exported: Exported, folder: Path, name: str, classes: tuple[str, ...]) -> LoadedEngine:
    """`model.torchscript.pt`, traced. Raises `ModelError` where it cannot be."""
    try:
        with silence(), torch.no_grad():
            traced = torch.jit.freeze(torch.jit.trace(exported, exported.example(), check_trace=False))
            traced.save(str(folder / FILE))
    except Exception as error:
        raise ModelError(f"PyTorch cannot trace the model: {str(error).strip().splitlines()[0]}") from error
    with silence():
        return LoadedEngine(torch.jit.load(folder / FILE))
