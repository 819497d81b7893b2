"""IDX files as MNIST and Fashion-MNIST come: big-endian header, then raw bytes, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danlu.base.errors import DataError
from danlu.sources.examples import ArrayPiece, Examples, join_arrays

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

_IMAGES = re.compile(r"(?P<stem>.*?)[-.]?images[-.]idx3-ubyte(?P<zip>\.gz)?$")
SIZE_LIMIT_BYTES = 4 << 30


def read(place: str | Path, settings: DataSettings | None = None) -> Examples:
    """Every `*images-idx3-ubyte` of a folder with its `*labels-idx1-ubyte`; `t10k` and `test` are the test part."""
    return read_folder(Path(place))


def read_folder(folder: Path, class_names: Sequence[str] | None = None) -> Examples:
    """As `read`, with names for the label numbers where they are known."""
    try:
        stems = {m["stem"]: m["zip"] or "" for p in sorted(folder.iterdir()) if (m := _IMAGES.match(p.name))}
    except OSError as error:
        raise DataError(f"cannot read folder `{folder}`: {error.strerror}") from error
    if not stems:
        raise DataError(f"`{folder}` holds no `*images-idx3-ubyte` file, raw or .gz")
    pieces = []
    for stem in sorted(stems, key=lambda s: ("t10k" in s or "test" in s, s)):
        pixels = read_array(_beside(folder, stem, "images", 3), dimensions=3)
        labels = read_array(_beside(folder, stem, "labels", 1), dimensions=1)
        if len(pixels) != len(labels):
            raise DataError(f"`{folder}`: {stem} has {len(pixels):,} images but {len(labels):,} labels")
        if class_names and labels.max(initial=0) >= len(class_names):
            raise DataError(f"`{folder}`: {stem} has label {labels.max()} but there are {len(class_names)} classes")
        part = "test" if "t10k" in stem or "test" in stem else "train"
        names = [class_names[n] if class_names else str(n) for n in labels]
        pieces.append(ArrayPiece(part, part, pixels, names))
    present = {name for piece in pieces for name in piece.names}
    classes = [name for name in class_names if name in present] if class_names else None
    return join_arrays(pieces, where=f"`{folder}`", kind_of_file="IDX files", class_names=classes)


def read_array(path: Path, *, dimensions: int) -> np.ndarray:
    """A uint8 array with the dimensions its header states. Raises `DataError` for another magic number or length."""
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"`{path}` cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"`{path}` is no IDX file of unsigned bytes with {dimensions} dimensions")
    shape = tuple(int(n) for n in np.frombuffer(raw, dtype=">u4", count=dimensions, offset=4))
    if math.prod(shape) != len(raw) - header or math.prod(shape) > SIZE_LIMIT_BYTES:
        raise DataError(f"`{path}` holds {len(raw) - header:,} bytes, its header promises {math.prod(shape):,}")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def _beside(folder: Path, stem: str, what: str, dimensions: int) -> Path:
    for joint in ("-", ".", ""):
        for dot in ("-", "."):
            for ending in ("", ".gz"):
                path = folder / f"{stem}{joint}{what}{dot}idx{dimensions}-ubyte{ending}"
                if path.exists():
                    return path
    raise DataError(f"`{folder}` holds images of {stem!r} but no `{stem}-{what}-idx{dimensions}-ubyte`")
