"""The binary version of CIFAR-10: records of one label byte and 3 × 32 × 32 pixel bytes (Krizhevsky, 2009)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danlu.base.errors import DataError
from danlu.sources.examples import ArrayPiece, Examples, join_arrays

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

RECORD_BYTES = 1 + 3 * 32 * 32


def read(place: str | Path, settings: DataSettings | None = None) -> Examples:
    """`data_batch_*.bin` as train and `test_batch.bin` as test; class names from `batches.meta.txt`."""
    folder = Path(place)
    files = [*sorted(folder.glob("data_batch*.bin")), *sorted(folder.glob("test_batch*.bin"))]
    if not files:
        raise DataError(f"`{folder}` holds no `data_batch_*.bin`")
    meta = folder / "batches.meta.txt"
    names = meta.read_text(encoding="utf-8").split() if meta.exists() else [str(n) for n in range(10)]
    pieces = []
    for path in files:
        raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        if len(raw) == 0 or len(raw) % RECORD_BYTES:
            raise DataError(f"`{path}` has {len(raw):,} bytes, not a multiple of {RECORD_BYTES:,}")
        records = raw.reshape(-1, RECORD_BYTES)
        if records[:, 0].max() >= len(names):
            raise DataError(f"`{folder}` has label {records[:, 0].max()} but {len(names)} class names")
        pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        part = "test" if path.name.startswith("test") else "train"
        pieces.append(ArrayPiece(part, path.stem, pixels, [names[n] for n in records[:, 0]]))
    examples = join_arrays(pieces, where=f"`{folder}`", kind_of_file="CIFAR-10 binary files", class_names=names)
    return replace(examples, facts={"flip": True})
