"""A run becomes what is shipped: a bundle whose answers are proven equal, and files for other runtimes."""

from __future__ import annotations

from danlu.base.registry import Member, Registry

VARIANTS = {"onnx": (), "int8": ("int8",), "dynamic-int8": ("dynamic-int8",)}  # beside fp32, in a bundle
FORMATS = Registry(
    "format",
    {
        "onnx": Member("danlu.exporting.bundling", "a bundle with an ONNX file, which answers without PyTorch"),
        "int8": Member("danlu.exporting.bundling", "a bundle with fp32 and static int8"),
        "dynamic-int8": Member("danlu.exporting.bundling", "a bundle with fp32 and dynamic int8; legacy"),
        "torch-export": Member("danlu.exporting.torch_export", "a graph of `torch.export`, for PyTorch elsewhere"),
        "torchscript": Member("danlu.exporting.torchscript", "a TorchScript file for old PyTorch and mobile; legacy"),
        "triton": Member("danlu.exporting.triton", "a repository for Triton Inference Server, proven without it"),
    },
)
