"""The binary version of CIFAR-10: records of one label byte and 3 × 32 × 32 pixel bytes (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danlu.base.errors import DataError
from danlu.sources.examples import Examples

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

RECORD_BYTES = 1 + 3 * 32 * 32


def read(place: str | Path, settings: DataSettings | None = None) -> Examples:
    """`data_batch_*.bin` as train and `test_batch.bin` as test; class names from `batches.meta.txt`."""
    folder = Path(place)
    files = [*sorted(folder.glob("data_batch*.bin")), *sorted(folder.glob("test_batch*.bin"))]
    if not files:
        raise DataError(f"`{folder}` holds no `data_batch_*.bin`")
    images, labels, keys, parts = [], [], [], []
    for path in files:
        raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        if len(raw) == 0 or len(raw) % RECORD_BYTES:
            raise DataError(f"`{path}` has {len(raw):,} bytes, not a multiple of {RECORD_BYTES:,}")
        records = raw.reshape(-1, RECORD_BYTES)
        images.append(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(records[:, 0].astype(np.int64))
        part = "test" if path.name.startswith("test") else "train"
        keys += [f"{path.stem}/{i:05d}" for i in range(len(records))]
        parts += [part] * len(records)
    numbers = np.concatenate(labels)
    meta = folder / "batches.meta.txt"
    names = meta.read_text(encoding="utf-8").split() if meta.exists() else [str(n) for n in range(10)]
    if numbers.max() >= len(names):
        raise DataError(f"`{folder}` has label {numbers.max()} but {len(names)} class names")
    return Examples(
        kind="images",
        items=np.concatenate(images),
        labels=numbers,
        classes=tuple(names),
        keys=tuple(keys),
        parts=tuple(parts) if len(set(parts)) > 1 else ("",) * len(parts),
        description=f"CIFAR-10 binary files with {len(numbers):,} images in {len(names)} classes",
        facts={"flip": True},
    )
