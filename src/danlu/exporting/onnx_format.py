"""ONNX by PyTorch's exporter on `torch.export`, any batch size and any text length, in one file."""

from __future__ import annotations

from typing import Any

import torch

from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported, forget_lstm_kernel
from danlu.exporting.quiet import silence
from danlu.prediction.onnx_engine import FEATURES, INPUT, SCORES

OPSET = 20


def onnx_bytes(exported: Exported) -> bytes:
    """The model as an ONNX file. Raises `ModelError` with what PyTorch says where it cannot be exported."""
    example = exported.example()
    forget_lstm_kernel()
    try:
        with silence():
            program = torch.onnx.export(
                exported,
                (example,),
                dynamo=True,
                dynamic_shapes={"inputs": exported.open_axes},
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
    proto = program.model_proto
    _forget_traces(proto.graph)
    for function in proto.functions:
        _forget_traces(function)
    data: bytes = proto.SerializeToString()
    return data


def _forget_traces(graph: Any) -> None:
    """Without the lines of code each node comes from, which tell the folders of this machine."""
    for node in graph.node:
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget_traces(attribute.g)
