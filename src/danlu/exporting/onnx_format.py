"""ONNX by PyTorch's exporter on `torch.export`, any batch size and any text length, in one file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from danlu.base.errors import ModelError
from danlu.exporting.exported import Exported
from danlu.prediction.onnx_engine import FEATURES, INPUT, SCORES

OPSET = 20


def onnx_bytes(exported: Exported) -> bytes:
    """The model as an ONNX file. Raises `ModelError` with what PyTorch says where it cannot be exported."""
    example = exported.example()
    axes = {0: torch.export.Dim.DYNAMIC}
    if exported.recipe is None:
        axes[1] = torch.export.Dim.DYNAMIC
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


@contextmanager
def silence() -> Iterator[None]:
    """Without the exporter's notes about packages it could use."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
