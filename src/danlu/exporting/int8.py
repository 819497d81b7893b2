"""Static int8: weights and activations as 8-bit numbers, their ranges from validation examples.

A graph keeps its inputs and outputs; quantize and dequantize nodes (QDQ) stand around its products, one scale a
channel for weights (Jacob et al., 2018, arXiv:1712.05877).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from danlu.base.errors import ModelError
from danlu.exporting.quiet import silence
from danlu.prediction.onnx_engine import INPUT

PRODUCTS = ("Conv", "MatMul", "Gemm")
QUANTIZED = (*PRODUCTS, "Relu")  # a ReLU is the bound of the range before it


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._left, None)
        return None if batch is None else {INPUT: batch}


def int8_files(model: bytes, batches: Sequence[np.ndarray]) -> dict[str, bytes]:
    """ONNX files with products in int8, by how they are made. `batches`: model inputs from which the ranges are taken.

    The last product stays in float32, since it costs little and decides; so does the first in one of the files. Weights
    have 7 bits, because processors without VNNI add pairs of products in 16 bits, which 8 would exceed. Raises
    `ModelError` where onnxruntime cannot.
    """
    files: dict[str, bytes] = {}

    def quantize(prepared: Path, quantized: Path) -> None:
        for made_as, kept in _kept_in_float32(prepared).items():
            quantize_static(
                prepared,
                quantized,
                _Batches(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED),
                nodes_to_exclude=kept,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"WeightSymmetric": True},
            )
            files[made_as] = quantized.read_bytes()

    _quantized(model, quantize)
    return files


def _kept_in_float32(prepared: Path) -> dict[str, list[str]]:
    """The nodes that are not quantized: the last product, and in a second way the first, while others are left."""
    products = [node.name for node in onnx.load(prepared).graph.node if node.op_type in PRODUCTS]
    ways = {"int8": products[-1:] if len(products) > 1 else []}
    if len(products) > 2:
        ways["int8 after the first product"] = [products[0], products[-1]]
    return ways


def dynamic_int8_bytes(model: bytes) -> bytes:
    """An ONNX file with int8 weights, the ranges of activations being taken from each input; LSTMs included."""
    return _quantized(model, lambda prepared, quantized: quantize_dynamic(_without_shapes(prepared), quantized))


def _without_shapes(path: Path) -> Any:
    """The model without the shapes between its layers: weights that are turned round would contradict them."""
    model = onnx.load(path)
    model.graph.ClearField("value_info")
    return model


def _quantized(model: bytes, quantize: Callable[[Path, Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as temporary, silence():
        whole, prepared, quantized = (Path(temporary) / f"{name}.onnx" for name in ("whole", "prepared", "int8"))
        whole.write_bytes(model)
        try:
            quant_pre_process(whole, prepared, skip_symbolic_shape=True)
            quantize(prepared, quantized)
        except Exception as error:  # onnxruntime and onnx raise many types
            raise ModelError(f"onnxruntime cannot quantize the model: {str(error).strip().splitlines()[0]}") from error
        return quantized.read_bytes()
