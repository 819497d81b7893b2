"""ONNX by PyTorch's exporter on `torch.export`, any batch size and any text length, in one file."""

from __future__ import annotations

import torch

from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported, forget_lstm_kernel
from danlu.exporting.quiet import silence
from danlu.prediction.onnx_engine import FEATURES, INPUT, SCORES

OPSET = 20


def onnx_bytes(exported: Exported) -> bytes:
    """The model as an ONNX file. Raises `ModelError` with what PyTorch says where it cannot be exported."""
    example = exported.example()
    axes = {0: torch.export.Dim.DYNAMIC}
    if exported.recipe is None:
        axes[1] = torch.export.Dim.DYNAMIC
    forget_lstm_kernel()
    try:
        with silence():
            program = torch.onnx.export(
                exported,
                (example,),
                dynamo=True,
                dynamic_shapes={"inputs": axes},
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[SCORES, FEATURES],
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types
        raise ModelError(f"PyTorch cannot export the model as ONNX: {str(error).strip().splitlines()[0]}") from error
    if program is None:
        raise ModelError("PyTorch gave no ONNX program")
    data: bytes = program.model_proto.SerializeToString()
    return data
