"""In a process of its own: does a precision work on this machine at all? Run by `probe.py`, never imported.

Some processors end a process with an illegal instruction although their flags promise the numbers.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import nn

from danlu.training.precision import DTYPES


def main() -> None:
    request = json.load(sys.stdin)
    device, dtype = torch.device(request["device"]), DTYPES.get(request["precision"], torch.float32)
    for size in (17, 64, 256):  # small ones take other kernels than large ones
        left = torch.randn(size, size, device=device).to(dtype)
        if not (left @ left).float().isfinite().all():
            raise ValueError("products are not numbers")
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 256, 10)
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        loss = model(torch.randn(8, 3, 16, 16, device=device)).float().square().mean()
    loss.backward()
    if not all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()):
        raise ValueError("gradients are not numbers")
    sys.stdout.write(json.dumps({"works": True}) + "\n")


if __name__ == "__main__":
    main()
