"""TorchScript, for PyTorch before 2.x and for mobile. PyTorch no longer develops it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danlu.base.bundle import write_file
from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported, LoadedEngine
from danlu.exporting.quiet import silence

FILE = "model.torchscript.pt"
TRACES = ".debug_pkl"


def write(exported: Exported, folder: Path, name: str, classes: tuple[str, ...]) -> LoadedEngine:
    """`model.torchscript.pt`, traced. Raises `ModelError` where it cannot be."""
    saved = io.BytesIO()
    try:
        with silence(), torch.no_grad():
            traced = torch.jit.trace(exported, exported.example(), check_trace=False)
            checked = torch.jit.script(_Checked(traced, exported.example().dtype).eval())
            torch.jit.save(torch.jit.freeze(checked), saved)
    except Exception as error:
        raise ModelError(f"PyTorch cannot trace the model: {str(error).strip().splitlines()[0]}") from error
    write_file(folder, FILE, _without_traces(saved.getvalue()))
    with silence():
        return LoadedEngine(torch.jit.load(folder / FILE))


class _Checked(nn.Module):
    """Pixels from 0 to 1, or normalised ones, would be answered too: a trace does not look at the type."""

    def __init__(self, traced: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.traced = traced
        self.dtype = dtype

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if inputs.dtype != self.dtype:
            raise ValueError("inputs are uint8 pixels from 0 to 255, or int64 token numbers")
        scores, features = self.traced(inputs)
        return scores, features


def _without_traces(saved: bytes) -> bytes:
    """Without the lines of code each operation comes from, which tell the folders of this machine."""
    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as whole, zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED) as written:
        for name in whole.namelist():
            if not name.endswith(TRACES):
                written.writestr(zipfile.ZipInfo(name), whole.read(name))
    return kept.getvalue()
