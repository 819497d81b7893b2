"""The gate before a bundle: from file bytes or text to label, the export answers as the trained model does."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from danlu.base.errors import ModelError
from danlu.exporting.held_out import HeldOut
from danlu.inputs.images import bytes_from_base64
from danlu.prediction.predictor import BATCH, Predictor

LIMIT = 1e-4
EXAMPLES = 500
BATCH_SIZES = (1, 7, 64)
TURNED, TURNED_BACK = 6, Image.Transpose.ROTATE_90  # by EXIF 6 a picture stands upright when turned clockwise


@dataclass(frozen=True)
class Way:
    """One way into the export: the examples that took it, how many got the same label, and the largest difference of a
    probability."""

    way: str
    examples: int
    same_labels: int
    largest_gap: float


@dataclass(frozen=True)
class Parity:
    """What was proven: all ways, and the limit for the difference of a probability."""

    limit: float
    ways: tuple[Way, ...]

    def to_json(self) -> dict[str, Any]:
        return {"format": 1, **asdict(self)}


def prove_equal(trained: Predictor, exported: Predictor, examples: HeldOut, limit: float = LIMIT) -> Parity:
    """Compare the export with the trained model on held-out examples, through every way an example can come.

    The trained model answers for the inputs that training would prepare. Labels have to be the same, unless the two
    classes are as probable as each other within the limit. Raises `ModelError` with the first example that differs.
    """
    expected = trained.probabilities(examples.inputs)
    ways: list[Way] = []
    for size in BATCH_SIZES:
        found = _in_batches(exported, examples.items, size)
        ways.append(_compared(f"{_sent(exported)}, {size} at a time", expected, found, examples.keys, limit))
    for way, sent, same in _other_ways(exported, examples):
        wanted = expected if same is None else trained.probabilities(np.stack([trained.read(item) for item in same]))
        ways.append(_compared(way, wanted, _in_batches(exported, sent, BATCH), examples.keys, limit))
    return Parity(limit, tuple(ways))


def _sent(predictor: Predictor) -> str:
    return "file" if predictor.kind == "images" else "text"


def _in_batches(predictor: Predictor, items: Sequence[Any], size: int) -> np.ndarray:
    """(N, classes) probabilities of items given `size` at a time."""
    found = np.empty((len(items), len(predictor.classes)))
    for start in range(0, len(items), size):
        for place, answer in enumerate(predictor.predict(list(items[start : start + size]))):
            if answer.error is not None:
                raise ModelError(f"the export cannot read a held-out example: it {answer.error}")
            found[start + place] = [answer.probabilities[name] for name in predictor.classes]
    return found


def _other_ways(predictor: Predictor, examples: HeldOut) -> Iterator[tuple[str, Sequence[Any], Sequence[Any] | None]]:
    """(name, what the export is sent, what the trained model reads instead of the prepared inputs).

    Pillow cannot decode a picture that is open already at a fraction of its size, as it does a file.
    """
    if predictor.kind == "texts":
        return
    yield "base64", [bytes_from_base64(base64.b64encode(data).decode()) for data in examples.items], None
    yield "list of pixels", [_as_list(pixels) for pixels in examples.inputs], None
    pictures = [_upright(data) for data in examples.items]
    yield "Pillow image", pictures, pictures
    files = [_png(picture) for picture in pictures]
    exif = Image.Exif()
    exif[0x0112] = TURNED
    yield "on its side, with EXIF", [_png(picture.transpose(TURNED_BACK), exif=exif) for picture in pictures], files
    yield "with an alpha channel", [_png(_with_alpha(picture)) for picture in pictures], files


def _upright(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        return upright.convert("L" if upright.mode in ("1", "L") else "RGB")


def _with_alpha(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA" if picture.mode == "RGB" else "LA")


def _png(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def _as_list(pixels: np.ndarray) -> list[Any]:
    """(channels, height, width) as rows of numbers, or of triples."""
    rows: list[Any] = (pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).tolist()
    return rows


def _compared(way: str, expected: np.ndarray, found: np.ndarray, keys: Sequence[str], limit: float) -> Way:
    gaps = np.abs(expected - found).max(1)
    rows = np.arange(len(expected))
    wanted, given = expected.argmax(1), found.argmax(1)
    tied = expected[rows, wanted] - expected[rows, given] <= limit
    wrong = np.flatnonzero(~(gaps <= limit) | ((wanted != given) & ~tied))
    if len(wrong):
        first = wrong[0]
        raise ModelError(
            f"the export does not answer as the trained model does ({way}): {len(wrong):,} of {len(keys):,} held-out"
            f" examples, first `{keys[first]}`: probabilities differ by {gaps[first]:.2g}, the limit is {limit:g}",
            hint="nothing was written",
        )
    return Way(way, len(keys), int((wanted == given).sum()), float(gaps.max()))
