"""From DATA and settings to three parts ready for training, with everything that was found and decided."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.base.errors import DataError, UnreadableItem
from danlu.checks import unreadable
from danlu.checks.finding import counted
from danlu.data.decode import PixelRows, decode_examples, look_at_headers
from danlu.data.near_images import grey_thumbnails, near_image_pairs
from danlu.data.near_texts import near_text_pairs
from danlu.data.split import ManifestRow, Split, manifest_rows, split_examples
from danlu.inputs.images import ImageRecipe
from danlu.inputs.texts import TextRecipe, looks_chinese
from danlu.sources.examples import PARTS, Examples, Problem
from danlu.sources.recognize import read_examples

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

SMALL_IMAGE = 64
LONGEST_TEXT = 512
Recipe = ImageRecipe | TextRecipe
Choices = dict[str, tuple[Any, str]]


@dataclass(frozen=True)
class Part:
    """The examples of one part as a model's inputs before batching.

    `inputs`: (examples, channels, height, width) uint8 pixels — an array in memory, or `PixelRows` on disk —
    or lists of token numbers.
    `labels`: (examples,) int64. `indices`: their places among all examples of the data.
    """

    inputs: Any
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PreparedData:
    """All parts with the one recipe that made them; `choices` are the `auto` values decided here, with reasons.

    `near_pairs`: (pairs, 2) indices of nearly equal examples, where the split had to look for them, or None.
    """

    examples: Examples
    recipe: Recipe
    parts: dict[str, Part]
    manifest: tuple[ManifestRow, ...]
    choices: Choices
    notes: tuple[str, ...]
    near_pairs: np.ndarray | None = None

    @property
    def kind(self) -> str:
        return self.examples.kind

    @property
    def classes(self) -> tuple[str, ...]:
        return self.examples.classes


def prepare(data: str | Path, settings: DataSettings, *, earlier: Sequence[ManifestRow] = ()) -> PreparedData:
    """Read, decode, split and number the examples of `data`; statistics and vocabulary come from train alone.

    Raises `DataError` when an example cannot be read, unless `data.unreadable` is `skip`.
    """
    examples = read_examples(data, settings)
    if examples.kind == "images":
        return _prepare_images(data, examples, settings, earlier)
    return _prepare_texts(data, examples, settings, earlier)


@dataclass(frozen=True)
class Encoded:
    """Examples as model inputs, the hash of each one's content, and those that cannot be read."""

    part: Part
    hashes: tuple[str, ...]
    problems: tuple[Problem, ...]


def encode_examples(examples: Examples, recipe: Recipe, *, use_cache: bool = True) -> Encoded:
    """Examples as inputs by a recipe that exists already."""
    if isinstance(recipe, ImageRecipe):
        decoded = decode_examples(examples, recipe, use_cache=use_cache)
        return Encoded(
            Part(decoded.take(np.arange(len(decoded.kept))), examples.labels[decoded.kept], decoded.kept),
            decoded.hashes,
            decoded.problems,
        )
    kept, problems = _readable_texts(examples)
    texts: list[str] = [str(examples.items[i]) for i in kept]
    inputs = _cut(recipe.token_ids(texts), recipe)
    return Encoded(Part(inputs, examples.labels[kept], kept), tuple(map(_text_hash, texts)), problems)


def check_unreadable(data: str | Path, problems: Sequence[Problem], total: int, settings: DataSettings) -> list[str]:
    """Stop at unreadable examples, or return the sentence that counts them when they are to be skipped."""
    if not problems:
        return []
    message = unreadable.told([(problem.key, problem.reason) for problem in problems], total, f" in `{data}`")
    if settings.unreadable == "stop":
        raise DataError(message, hint=unreadable.ADVICE)
    return [f"left out: {message}"]


def _prepare_images(
    data: str | Path, examples: Examples, settings: DataSettings, earlier: Sequence[ManifestRow]
) -> PreparedData:
    total = len(examples) + len(examples.problems)
    recipe, choices = _image_recipe(examples, settings)
    decoded = decode_examples(examples, recipe, use_cache=settings.cache)
    notes = check_unreadable(data, examples.problems + decoded.problems, total, settings)
    kept = examples.select(decoded.kept, decoded.problems)
    _require_some(data, kept)
    every = PixelRows(decoded.pixels, decoded.kept)
    split = _split(kept, decoded.hashes, settings, earlier, lambda: near_image_pairs(grey_thumbnails(every)))
    _require_train(data, split)
    parts = {part: Part(decoded.take(i), kept.labels[i], i) for part in PARTS if len(i := split.indices(part))}
    mean, std = _mean_and_std(parts["train"].inputs, recipe.channels)
    recipe = replace(recipe, mean=mean, std=std)
    rows = tuple(manifest_rows(kept, decoded.hashes, split))
    return PreparedData(kept, recipe, parts, rows, choices, (*examples.notes, *split.notes, *notes), split.near_pairs)


def _prepare_texts(
    data: str | Path, examples: Examples, settings: DataSettings, earlier: Sequence[ManifestRow]
) -> PreparedData:
    total = len(examples) + len(examples.problems)
    readable, problems = _readable_texts(examples)
    notes = check_unreadable(data, examples.problems + problems, total, settings)
    kept = examples.select(readable, problems)
    texts: list[str] = list(kept.items)  # type: ignore[arg-type]
    hashes = tuple(map(_text_hash, texts))
    _require_some(data, kept)
    split = _split(kept, hashes, settings, earlier, lambda: near_text_pairs(texts))
    _require_train(data, split)
    train = split.indices("train")
    recipe, choices = _text_recipe([texts[i] for i in train], settings)
    ids = recipe.token_ids(texts)
    cut_count = sum(1 for row in ids if len(row) > recipe.max_length)
    if cut_count:
        told = counted(cut_count, "text is", "texts are")
        notes.append(f"{told} longer than {recipe.max_length} tokens; what is beyond is cut")
    ids = _cut(ids, recipe)
    parts = {part: Part([ids[j] for j in i], kept.labels[i], i) for part in PARTS if len(i := split.indices(part))}
    rows = tuple(manifest_rows(kept, hashes, split))
    return PreparedData(kept, recipe, parts, rows, choices, (*examples.notes, *split.notes, *notes), split.near_pairs)


def _image_recipe(examples: Examples, settings: DataSettings) -> tuple[ImageRecipe, Choices]:
    """Size and colour from the images that may be learnt from: not from those the data calls validation or test."""
    choices: Choices = {}
    items: Any = examples.items
    if not isinstance(items, np.ndarray):  # all images of an array have one size
        items = [item for item, part in zip(items, examples.parts, strict=True) if part in ("", "train")]
    headers = look_at_headers(items)
    if not headers:
        return ImageRecipe(SMALL_IMAGE, SMALL_IMAGE, 3, settings.resize), choices
    sides = [max(header.width, header.height) for header in headers]
    size = 0 if settings.image_size == "auto" else settings.image_size
    if not size:
        size = min(SMALL_IMAGE, int(np.median(sides)))
        one_size = len({(header.width, header.height) for header in headers}) == 1
        if max(sides) <= SMALL_IMAGE and one_size:
            reason = f"the images have {headers[0].width} × {headers[0].height} pixels"
        else:
            reason = (
                f"median longest side {int(np.median(sides))} pixels, at most {SMALL_IMAGE} to train on a processor"
            )
        choices["data.image_size"] = (size, reason)
    color = settings.color
    if color == "auto":
        color = "gray" if all(header.is_gray for header in headers) else "rgb"
        choices["data.color"] = (color, "no image has colour" if color == "gray" else "images have colour")
    return ImageRecipe(size, size, 1 if color == "gray" else 3, settings.resize), choices


def _text_recipe(train_texts: Sequence[str], settings: DataSettings) -> tuple[TextRecipe, Choices]:
    choices: Choices = {}
    tokens = settings.tokens
    if tokens == "auto":
        tokens = "characters" if looks_chinese(train_texts) else "words"
        choices["data.tokens"] = (
            tokens,
            "Chinese, Japanese or Korean signs, not separated by blanks"
            if tokens == "characters"
            else "words separated by blanks",
        )
    recipe = TextRecipe.fit(
        train_texts,
        tokens=tokens,
        max_length=LONGEST_TEXT,
        vocabulary_size=settings.vocabulary_size,
        min_count=settings.min_count,
    )
    length = 0 if settings.max_length == "auto" else settings.max_length
    if not length:
        lengths = [len(row) for row in recipe.token_ids(train_texts)]
        length = max(1, min(LONGEST_TEXT, int(np.ceil(np.quantile(lengths, 0.995)))))
        choices["data.max_length"] = (length, f"99.5 % of the train texts are that short, at most {LONGEST_TEXT}")
    recipe.max_length = length
    return recipe, choices


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _readable_texts(examples: Examples) -> tuple[np.ndarray, tuple[Problem, ...]]:
    """Indices of the examples whose text holds at least one visible sign, and the others."""
    probe = TextRecipe.fit(["a"], tokens="characters", max_length=1, min_count=1)
    problems: list[Problem] = []
    kept: list[int] = []
    texts: list[str] = list(examples.items)  # type: ignore[arg-type]
    for index, text in enumerate(texts):
        if text.isascii() and text.strip() and text.isprintable():
            kept.append(index)
            continue
        try:
            probe.token_ids([text[:1000]])
            kept.append(index)
        except UnreadableItem as error:
            problems.append(Problem(examples.keys[index], error.message))
    return np.array(kept, dtype=np.int64), tuple(problems)


def _cut(ids: Sequence[list[int]], recipe: TextRecipe) -> list[list[int]]:
    return [row[: recipe.max_length] for row in ids]


def _require_some(data: str | Path, examples: Examples) -> None:
    if not len(examples):
        first = examples.problems[0]
        told = f"none of the {len(examples.problems):,} examples in `{data}` can be read"
        raise DataError(f"{told}, first: `{first.key}` ({first.reason})")


def _require_train(data: str | Path, split: Split) -> None:
    if not len(split.indices("train")):
        raise DataError(
            f"no train example is left of `{data}`",
            hint="all of them stand in a later part too (`data.leaks=drop`), or the known ones are gone: add examples",
        )


def _split(
    examples: Examples,
    hashes: Sequence[str],
    settings: DataSettings,
    earlier: Sequence[ManifestRow],
    near: Callable[[], np.ndarray],
) -> Split:
    return split_examples(
        examples,
        hashes,
        shares=settings.split,
        seed=settings.split_seed,
        earlier=earlier,
        drop_leaks=settings.leaks == "drop",
        near=near,
    )


def _mean_and_std(pixels: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel on the 0–1 scale, over the train part, from exact integer histograms."""
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(pixels), 4096):
        chunk = pixels[start : start + 4096]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].reshape(-1), minlength=256)
    levels = np.arange(256) / 255
    means = (counts * levels).sum(1) / counts.sum(1)
    stds = np.sqrt((counts * (levels - means[:, None]) ** 2).sum(1) / counts.sum(1))
    return tuple(round(float(m), 6) for m in means), tuple(round(max(float(s), 1e-3), 6) for s in stds)
