"""The gate before a bundle: from file bytes or text to label, the export answers as the trained model does."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from danlu.base.errors import ModelError
from danlu.exporting.held_out import HeldOut
from danlu.inputs.images import ImageRecipe, bytes_from_base64, decode_image, read_file, read_header
from danlu.inputs.texts import TextRecipe
from danlu.prediction.predictor import BATCH, Predictor

LIMIT = 1e-4
TIE = 1e-3  # of a probability: closer than this, either label will do
EXAMPLES = 500
BATCH_SIZES = (1, 7, 64)
NOTHING_WRITTEN = "nothing was written"
SHORT = (1, 2, 3)  # letters or words, of texts that are cut
LARGER = 4  # than the model's input, at most, are the pictures that are written otherwise
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


def prove_equal(trained: Predictor, exported: Predictor, examples: HeldOut) -> Parity:
    """Compare the export with the trained model on held-out examples, through every way an example can come.

    The trained model answers for the inputs that training would prepare. Labels have to be the same, unless two classes
    differ by less than a thousandth of the higher probability. Raises `ModelError` with the first example that differs.
    """
    if (exported.classes, exported.calibration) != (trained.classes, trained.calibration):
        raise ModelError("the export has other classes or another calibration than the run", hint=NOTHING_WRITTEN)
    expected = trained.probabilities(examples.inputs)
    ways: list[Way] = []

    def prove(way: str, wanted: np.ndarray, found: np.ndarray) -> None:
        ways.append(_compared(way, wanted, found, examples.keys))

    def answers(
        model: Predictor, send: Callable[[Any], Any] | None = None, size: int = BATCH, items: Any = examples.items
    ) -> np.ndarray:
        return _answers(model, examples.keys, [send(item) for item in items] if send else items, size)

    sent = "file" if exported.kind == "images" else "text"
    for size in BATCH_SIZES:
        prove(f"{sent}, {size} at a time", expected, answers(exported, size=size))
    if isinstance(exported.recipe, TextRecipe):
        ways_of_texts = {
            **{f"cut to {count}": partial(_cut, count=count, tokens=exported.recipe.tokens) for count in SHORT},
            "longer than is read": partial(_repeated, times=exported.recipe.max_length),
        }
        for way, send in ways_of_texts.items():
            prove(way, answers(trained, send), answers(exported, send))
    if isinstance(exported.recipe, ImageRecipe):
        prove("base64", expected, answers(exported, _through_base64))
        prove("list of pixels", expected, answers(exported, _as_list, items=examples.inputs))
        upright = partial(_upright, recipe=exported.recipe)
        prove("Pillow image", answers(trained, upright), answers(exported, upright))
        ways_of_files: dict[str, tuple[Callable[[Image.Image], bytes], Callable[[Image.Image], bytes]]] = {
            "on its side, with EXIF": (_png, _on_its_side),
            "with an alpha channel": (_half_white, _half_transparent),
        }
        for way, changes in ways_of_files.items():
            plain, sent_as = (partial(_changed, upright=upright, change=change) for change in changes)
            prove(way, answers(trained, plain), answers(exported, sent_as))
    return Parity(LIMIT, tuple(ways))


def prove_shipped(judged: Predictor, shipped: Predictor, examples: HeldOut) -> None:
    """Whether a variant, as the bundle has it, is the one that was judged. Raises `ModelError`.

    Both get the same batches: dynamic int8 takes its ranges from them, so that an answer depends on what comes along.
    """
    for size in BATCH_SIZES:
        expected, found = (_answers(model, examples.keys, examples.items, size) for model in (judged, shipped))
        _compared(f"as shipped, {size} at a time", expected, found, examples.keys)


def _answers(predictor: Predictor, keys: Sequence[str], items: Sequence[Any], size: int) -> np.ndarray:
    """(N, classes) probabilities of items given `size` at a time."""
    found = np.empty((len(items), len(predictor.classes)))
    for start in range(0, len(items), size):
        for place, answer in enumerate(predictor.predict(list(items[start : start + size])), start):
            if answer.error is not None:
                raise ModelError(
                    f"the export cannot read the held-out example `{keys[place]}`: it {answer.error}",
                    hint=NOTHING_WRITTEN,
                )
            found[place] = [answer.probabilities[name] for name in predictor.classes]
    return found


def _data(item: Any) -> bytes:
    return item if isinstance(item, bytes) else read_file(item)


def _through_base64(item: Any) -> bytes:
    return bytes_from_base64(base64.b64encode(_data(item)).decode())


def _as_list(pixels: np.ndarray) -> list[Any]:
    """(channels, height, width) as rows of numbers, or of triples."""
    rows: list[Any] = (pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).tolist()
    return rows


def _upright(item: Any, recipe: ImageRecipe) -> Image.Image:
    """A picture as it stands, some times larger than the model's input."""
    data = _data(item)
    header = read_header(data)
    scale = min(1.0, LARGER * max(recipe.height, recipe.width) / max(header.height, header.width))
    height, width = (max(1, round(side * scale)) for side in (header.height, header.width))
    pixels = decode_image(data, ImageRecipe(height, width, recipe.channels, "stretch"))
    return Image.fromarray(pixels[0] if recipe.channels == 1 else pixels.transpose(1, 2, 0))


def _changed(item: Any, *, upright: Callable[[Any], Image.Image], change: Callable[[Image.Image], bytes]) -> bytes:
    return change(upright(item))


def _on_its_side(picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    return _png(picture.transpose(TURNED_BACK), exif=exif)


def _half_white(picture: Image.Image) -> bytes:
    half = picture.copy()
    half.paste("white", _left_half(picture))
    return _png(half)


def _half_transparent(picture: Image.Image) -> bytes:
    """The left half cannot be seen, although its colours are still there."""
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, _left_half(picture))
    half = picture.copy()
    half.putalpha(alpha)
    return _png(half)


def _left_half(picture: Image.Image) -> tuple[int, int, int, int]:
    return (0, 0, (picture.width + 1) // 2, picture.height)


def _cut(text: str, *, count: int, tokens: str) -> str:
    """The first words or letters; the text itself where it has none."""
    if tokens == "words":
        return " ".join(text.split()[:count])
    return "".join(sign for sign in text if sign.isalnum())[:count] or text


def _repeated(text: str, *, times: int) -> str:
    return f"{text} " * times


def _png(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def _compared(way: str, expected: np.ndarray, found: np.ndarray, keys: Sequence[str]) -> Way:
    gaps = np.abs(expected - found).max(1)
    rows = np.arange(len(expected))
    wanted, given = expected.argmax(1), found.argmax(1)
    tied = expected[rows, wanted] - expected[rows, given] <= TIE * expected[rows, wanted]
    wrong = np.flatnonzero(~(gaps <= LIMIT) | ((wanted != given) & ~tied))
    if len(wrong):
        first = wrong[0]
        raise ModelError(
            f"the export does not answer as the trained model does ({way}): {len(wrong):,} of {len(keys):,} held-out"
            f" examples, first `{keys[first]}`: probabilities differ by {gaps[first]:.2g}, the limit is {LIMIT:g}",
            hint=NOTHING_WRITTEN,
        )
    return Way(way, len(keys), int((wanted == given).sum()), float(gaps.max()))
