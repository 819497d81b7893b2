"""A .npz file of uint8 image arrays and labels; nothing pickled is ever loaded."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danlu.base.errors import DataError
from danlu.sources.examples import ArrayPiece, Examples, join_arrays

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

LAYOUTS = (
    (("train", "x_train", "y_train"), ("validation", "x_val", "y_val"), ("test", "x_test", "y_test")),
    (
        ("train", "train_images", "train_labels"),
        ("validation", "val_images", "val_labels"),
        ("test", "test_images", "test_labels"),
    ),
    (("", "images", "labels"),),
    (("", "x", "y"),),
    (("", "data", "target"),),
)


def read(place: str | Path, settings: DataSettings | None = None) -> Examples:
    """Arrays by name: `x_train, y_train[, x_val, y_val][, x_test, y_test]`, `train_images, …`, or `images, labels`."""
    path = Path(place)
    arrays = _arrays(path)
    layout = next((rows for rows in LAYOUTS if rows[0][1] in arrays and rows[0][2] in arrays), None)
    if layout is None:
        raise DataError(
            f"`{path}` holds {', '.join(f'`{n}`' for n in arrays) or 'nothing'}",
            hint="expected `x_train` and `y_train` (and `x_test`, `y_test`), or `images` and `labels`",
        )
    pieces = []
    for part, image_name, label_name in layout:
        if image_name not in arrays:
            continue
        pixels, labels = arrays[image_name], arrays.get(label_name)
        _check(path, image_name, pixels)
        if labels is None or labels.size != len(pixels):
            raise DataError(f"`{path}`: `{image_name}` has {len(pixels):,} images, `{label_name}` does not fit")
        names = [_name(value) for value in labels.reshape(-1).tolist()]
        pieces.append(ArrayPiece(part, image_name, pixels, names))
    return join_arrays(pieces, where=f"`{path}`", kind_of_file=".npz file")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as raw:
            if not zipfile.is_zipfile(raw):
                raise DataError(f"`{path}` is not a .npz file ({path.stat().st_size:,} bytes, not a zip archive)")
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                arrays = {name.lower(): file[name] for name in file.files}
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        told = "holds Python objects (pickle), which are never loaded" if "pickle" in str(error).lower() else str(error)
        raise DataError(f"`{path}` cannot be read: {told}") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise DataError(f"`{path}`: `{foreign[0]}` is not an array")
    return arrays


def _name(label: object) -> str:
    return label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else str(label)


def _check(path: Path, name: str, pixels: np.ndarray) -> None:
    if pixels.dtype != np.uint8:
        raise DataError(f"`{path}`: `{name}` is {pixels.dtype}, expected uint8 pixels of 0 to 255")
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise DataError(
            f"`{path}`: `{name}` has the shape {pixels.shape}",
            hint="expected (images, height, width), or with 1 or 3 channels as the last dimension",
        )
