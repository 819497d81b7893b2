"""What every child process is given and what it gives back. Standard library only: peers do not have danlu."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
NETWORKS = ("mlp", "digit_cnn")
WIDTHS = (256, 128)  # of mlp
CHANNELS, HIDDEN_SIZE = (32, 64), 128  # of digit_cnn
FEATURE_DROPOUT, DROPOUT = 0.25, 0.5
CLASSES = 10


def parser(description: str | None, *, reads_data: bool = True) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    if reads_data:
        made.add_argument("--data", required=True)
    made.add_argument("--epochs", type=int, default=2, help="all epochs, the warm-up included")
    made.add_argument("--threads", type=int, default=0, help="PyTorch's threads; 0 leaves its default")
    made.add_argument("--out", type=Path, required=True)
    return made


def add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", choices=NETWORKS, required=True)


def give_back(arguments: argparse.Namespace, packages: tuple[str, ...], **values: Any) -> None:
    """Leave the result as JSON where the parent looks for it, with the versions that made it."""
    result: Mapping[str, Any] = {**values, "versions": {name: version(name) for name in packages}}
    arguments.out.write_text(json.dumps(result), encoding="utf-8")
