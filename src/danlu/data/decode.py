"""Image files decoded once: threads, a uint8 array in memory, and a cache on disk keyed by content and recipe."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base import log
from danlu.base.errors import MachineError, UnreadableItem
from danlu.base.files import write_atomically, write_json
from danlu.base.machine import available_cores, cache_folder, memory_bytes
from danlu.inputs.images import (
    SECONDS_WORTH_A_THREAD,
    ImageHeader,
    ImageRecipe,
    decode_image,
    fit_pixels,
    read_file,
    read_header,
)
from danlu.sources.examples import Examples, Problem

FORMAT = 1
BATCH_FILES = 64


@dataclass(frozen=True)
class PixelRows:
    """Some rows of a pixel array that stays on disk; indexing reads them, as `rows[[3, 1]]` or `rows[10:20]`.

    >>> len(PixelRows(np.zeros((9, 1, 2, 2), np.uint8), np.array([4, 2]))[:1])
    1
    """

    pixels: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        found: np.ndarray = self.pixels[self.places[chosen]]
        return found


@dataclass(frozen=True)
class DecodedImages:
    """`pixels`: (examples, channels, height, width) uint8, in memory or, when too large, on disk.

    `kept`: indices of the readable examples. `hashes`: SHA-256 of each kept example's bytes. `from_cache` says
    whether nothing had to be decoded.
    """

    pixels: np.ndarray
    kept: np.ndarray
    hashes: tuple[str, ...]
    problems: tuple[Problem, ...]
    from_cache: bool

    def take(self, chosen: np.ndarray) -> np.ndarray | PixelRows:
        """The pixels of some of the kept examples: a copy in memory, or rows that stay on disk."""
        places = self.kept[chosen]
        if isinstance(self.pixels, np.memmap):
            return PixelRows(self.pixels, places)
        pixels: np.ndarray = self.pixels[places]
        return pixels


def look_at_headers(items: np.ndarray | Sequence[Any], sample: int = 500) -> list[ImageHeader]:
    """Headers of up to `sample` images spread evenly over them; unreadable ones are passed over here."""
    step = max(1, len(items) // sample)
    headers: list[ImageHeader] = []
    for item in items[::step]:
        if isinstance(item, np.ndarray):
            headers.append(ImageHeader(item.shape[1], item.shape[0], item.ndim == 2 or item.shape[2] == 1))
            break  # an array has one shape
        try:
            headers.append(read_header(read_file(str(item))))
        except UnreadableItem:
            continue
    return headers


def decode_examples(examples: Examples, recipe: ImageRecipe, *, use_cache: bool = True) -> DecodedImages:
    """Every readable image through the one preprocessing, with the hash of its content."""
    if isinstance(examples.items, np.ndarray):
        return _from_array(examples.items, recipe)
    paths = [Path(str(path)) for path in examples.items]
    folder = cache_folder() / "images" if use_cache else None
    stamps = [_stamp(path) for path in paths]
    name = _cache_name(paths, stamps, recipe)
    if folder is not None and (cached := _read_cache(folder / name, len(paths), recipe)) is not None:
        return cached
    pixels = _room_for(len(paths), recipe, folder / name if folder is not None else None)
    decoded = _decode_files(examples.keys, paths, recipe, pixels)
    if folder is not None and not decoded.problems:
        _write_cache(folder / name, decoded)
    return decoded


def fits_in_memory(size_bytes: int) -> bool:
    """True when pixels take no more than half of the memory that is free; also where the system does not tell."""
    available = memory_bytes()[1]
    return available == 0 or size_bytes <= available / 2


def _room_for(count: int, recipe: ImageRecipe, base: Path | None) -> np.ndarray:
    """An array for all pixels: in memory, or a file in the cache folder that batches are then read from."""
    shape = (count, *recipe.shape)
    size_bytes = math.prod(shape)
    if fits_in_memory(size_bytes):
        return np.empty(shape, dtype=np.uint8)
    needed, free = f"{size_bytes / 1e9:.1f} GB of pixels", memory_bytes()[1] / 1e9
    if base is None:
        raise MachineError(
            f"{needed} do not fit in the {free:.1f} GB of free memory",
            hint="`data.cache=true` keeps them on disk; or set a smaller `data.image_size`",
        )
    log.say(
        f"{needed} do not fit in the {free:.1f} GB of free memory; they are kept in `{base.parent}` and read as needed"
    )
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        base.with_suffix(".json").unlink(missing_ok=True)  # the mark that the pixels are complete
        return np.lib.format.open_memmap(base.with_suffix(".npy"), mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise MachineError(
            f"cannot keep {needed} in `{base.parent}`: {error.strerror or error}",
            hint="free some space, name another folder with `DANLU_CACHE=…`, or set a smaller `data.image_size`",
        ) from error


def _from_array(items: np.ndarray, recipe: ImageRecipe) -> DecodedImages:
    hashes = tuple(hashlib.sha256(item.tobytes()).hexdigest() for item in items)
    same_size = items.shape[1:3] == (recipe.height, recipe.width)
    if same_size and items.ndim == 3 and recipe.channels == 1:
        pixels = np.ascontiguousarray(items[:, None])
    else:
        pixels = np.stack([fit_pixels(item, recipe) for item in items])
    return DecodedImages(pixels, np.arange(len(items)), hashes, (), from_cache=False)


def _decode_files(keys: Sequence[str], paths: Sequence[Path], recipe: ImageRecipe, pixels: np.ndarray) -> DecodedImages:
    """All files into `pixels`; by a pool of threads when an image takes long enough.

    Pillow decodes without Python's lock, but for small files the work around it holds the lock, and threads that wait
    for it made 32 × 32 JPEGs take twice as long as one thread does. The first files decide.
    """
    hashes: list[str] = [""] * len(paths)
    reasons: dict[int, str] = {}

    def work(start: int) -> None:
        for index in range(start, min(start + BATCH_FILES, len(paths))):
            try:
                data = read_file(paths[index])
                hashes[index] = hashlib.sha256(data).hexdigest()
                pixels[index] = decode_image(data, recipe)
            except UnreadableItem as error:
                reasons[index] = error.message

    started = time.perf_counter()
    work(0)
    seconds_each = (time.perf_counter() - started) / max(1, min(BATCH_FILES, len(paths)))
    rest = range(BATCH_FILES, len(paths), BATCH_FILES)
    if seconds_each < SECONDS_WORTH_A_THREAD:
        for start in rest:
            work(start)
    else:
        with ThreadPoolExecutor(max_workers=available_cores()) as pool:
            for _ in pool.map(work, rest):
                pass
    kept = np.array([index for index in range(len(paths)) if index not in reasons], dtype=np.int64)
    problems = tuple(Problem(keys[index], reasons[index]) for index in sorted(reasons))
    return DecodedImages(pixels, kept, tuple(hashes[i] for i in kept), problems, from_cache=False)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def _cache_name(paths: Sequence[Path], stamps: Sequence[tuple[int, int]], recipe: ImageRecipe) -> str:
    """Same files, sizes, modification times and recipe: same name. The stored hashes speak for the content."""
    digest = hashlib.sha256(json.dumps([FORMAT, recipe.geometry()], sort_keys=True).encode())
    for path, (size, modified) in zip(paths, stamps, strict=True):
        digest.update(os.fsencode(os.path.abspath(path)) + f"\0{size}\0{modified}\0".encode())
    return digest.hexdigest()[:32]


def _read_cache(base: Path, count: int, recipe: ImageRecipe) -> DecodedImages | None:
    array, index = base.with_suffix(".npy"), base.with_suffix(".json")
    try:
        hashes = json.loads(index.read_text(encoding="utf-8"))["hashes"]
        pixels = np.load(array, mmap_mode="r", allow_pickle=False)
        if pixels.shape != (count, *recipe.shape) or pixels.dtype != np.uint8 or len(hashes) != count:
            raise ValueError(f"it holds {pixels.dtype} of the shape {pixels.shape} and {len(hashes)} hashes")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        log.say(f"the image cache `{array}` is damaged ({error}); decoding again")
        return None
    if fits_in_memory(pixels.nbytes):
        pixels = np.array(pixels)
    return DecodedImages(pixels, np.arange(count), tuple(hashes), (), from_cache=True)


def _write_cache(base: Path, decoded: DecodedImages) -> None:
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(decoded.pixels, np.memmap):
            decoded.pixels.flush()
        else:
            write_atomically(base.with_suffix(".npy"), lambda file: np.save(file, decoded.pixels, allow_pickle=False))
        write_json(base.with_suffix(".json"), {"format": FORMAT, "hashes": list(decoded.hashes)})
    except (OSError, MachineError) as error:
        log.warn(f"decoded images are not kept for the next run: {error}")
