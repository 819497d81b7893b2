"""Images: file bytes → (channels, height, width) uint8 → normalised float32. numpy and Pillow only."""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
import stat
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from danlu.base.errors import ModelError, UnreadableItem

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
THUMBNAIL_SIDE = 96
BAND = 1 << 19  # pixels whose mode is changed at a time: copies of a whole image took 12 bytes a pixel more
STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # that Pillow keeps of a pixel; 4 of any other mode
WEBP_BYTES, WEBP_KEPT_BYTES = (
    16,
    8,
)  # a pixel: two canvases, which the decoder keeps, and twice the image
JPEG_BYTES = 6  # a pixel of the file, which a progressive one keeps until it is decoded
SMALL_SIDE = 48  # up to here PNG is as small as JPEG, and exact
PIXEL_LIMIT = 50_000_000
SECONDS_WORTH_A_THREAD = 0.00025  # to read one; shorter work mostly holds Python's lock
SIGNATURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF"}
# EXIF 2.32, tag 0x0112: how the stored pixels must be turned to stand upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns of odd metadata that changes no pixel. For the whole process, since threads that read share its filters.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # the limit is ours, checked from the header before any pixel is decoded


@dataclass(frozen=True)
class ImageRecipe:
    """Everything that decides which numbers an image becomes; saved with the model.

    `mean` and `std` have one value a channel, on the 0–1 scale.
    """

    height: int
    width: int
    channels: int
    resize: Literal["crop", "pad", "stretch"] = "crop"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.height, self.width)

    def geometry(self) -> dict[str, Any]:
        """The part that decides the uint8 pixels, without mean and std."""
        return {name: value for name, value in asdict(self).items() if name not in ("mean", "std")}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ImageRecipe:
        """Raises `ModelError` for what is no recipe."""
        try:
            found = cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
            numbers = (*found.mean, *found.std)
            is_sound = (
                all(type(side) is int and side > 0 for side in (found.height, found.width))
                and found.height * found.width <= PIXEL_LIMIT
                and type(found.channels) is int
                and found.channels in (1, 3)
                and found.resize in ("crop", "pad", "stretch")
                and len(found.mean) == len(found.std) == found.channels
                and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
                and min(found.std) > 0
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the saved preprocessing is damaged: {error!r}") from error
        if not is_sound:
            raise ModelError(f"the saved preprocessing is damaged: {dict(values)}")
        return found


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of itself before decoding. `is_gray`: no colour in its mode."""

    width: int
    height: int
    is_gray: bool


def read_file(path: str | Path) -> bytes:
    """All bytes of an image file; `UnreadableItem` when there is no such regular file."""
    text = str(path)
    if text.startswith(("http://", "https://")):
        raise UnreadableItem("is an address, not a file; danlu fetches nothing")
    if text.startswith("data:"):
        raise UnreadableItem("is a data URL, not a file; its decoded bytes are read")
    try:
        if not stat.S_ISREG(os.stat(text).st_mode):  # a pipe would wait for ever
            raise UnreadableItem("is not a regular file")
        with open(text, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UnreadableItem("no such file") from None
    except (OSError, ValueError) as error:
        raise UnreadableItem(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from error


def read_header(data: bytes) -> ImageHeader:
    """Size and colour from the header alone. Raises `UnreadableItem`."""
    with _open(data) as image:
        # Pillow would decode a whole PNG to look for EXIF behind its pixels.
        is_known = image.format != "PNG" or "exif" in image.info
        swaps = is_known and _orientation(image) in (5, 6, 7, 8)
        width, height = (image.height, image.width) if swaps else image.size
        return ImageHeader(width, height, image.mode in ("1", "L", "LA", "I;16", "I"))


class ManyPixels(Exception):
    """An image that was opened, and not decoded because it has more `pixels` than were allowed. `room_bytes`: of memory
    that decoding it takes at most."""

    def __init__(self, pixels: int, room_bytes: int) -> None:
        super().__init__(f"{pixels:,} pixels")
        self.pixels, self.room_bytes = pixels, room_bytes


def decode_image(data: bytes, recipe: ImageRecipe, *, at_most: int | None = None) -> np.ndarray:
    """The pixels a model sees, as (channels, height, width) uint8.

    EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, only the first
    frame of an animation counts. Raises `UnreadableItem` with the reason, and `ManyPixels` for an image of more than
    `at_most`.
    """
    with _open(data) as image:
        if at_most is not None and image.width * image.height > at_most:
            raise ManyPixels(image.width * image.height, _room_bytes(image, recipe))
        try:
            if image.format == "JPEG":
                image.draft("L" if recipe.channels == 1 else "RGB", _draft_size(image, recipe))
            return fit_image(image, recipe)
        except UnreadableItem:
            raise
        except Exception as error:  # Pillow's decoders raise many types for broken data
            raise UnreadableItem(_broken(data, error)) from error


def fit_image(image: Image.Image, recipe: ImageRecipe) -> np.ndarray:
    """A Pillow image by the same rules as a file, as (channels, height, width) uint8.

    A large JPEG file is decoded at a fraction of its size, which Pillow can only do before it has decoded it: what was
    opened elsewhere may differ from the file by a level or two.
    """
    image.load()
    turn = TURNS.get(_orientation(image))
    plain = _in_mode(image, recipe.channels)
    upright = plain if turn is None else plain.transpose(turn)
    return _to_array(_resized(upright, recipe))


def fit_pixels(pixels: np.ndarray, recipe: ImageRecipe) -> np.ndarray:
    """An image that is already an array — (H, W) or (H, W, channels) uint8 — by the same rules as a file."""
    if pixels.dtype != np.uint8:
        raise UnreadableItem(f"expected uint8 pixels (0 to 255), got {pixels.dtype}")
    if not pixels.size:
        raise UnreadableItem(f"holds no pixels: its shape is {pixels.shape}")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and not 1 <= pixels.shape[2] <= 4):
        raise UnreadableItem(f"expected pixels as (height, width) or (height, width, channels), got {pixels.shape}")
    gray = pixels.ndim == 2 or pixels.shape[2] == 1
    if pixels.shape[:2] == (recipe.height, recipe.width) and (1 if gray else pixels.shape[2]) == recipe.channels:
        return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1))
    image = Image.fromarray(pixels.reshape(pixels.shape[:2]) if gray else pixels)
    return _to_array(_resized(_in_mode(image, recipe.channels), recipe))


def pixels_from_list(values: Sequence[Any]) -> np.ndarray:
    """Rows of numbers 0 to 255, or of (red, green, blue) triples, as uint8 pixels.

    Raises `UnreadableItem` for rows of unequal length and for other numbers.

    >>> pixels_from_list([[0, 255], [128, 3]]).tolist()
    [[0, 255], [128, 3]]
    """
    if (quickly := _grey_pixels(values)) is not None:
        return quickly
    pixels = whole_numbers(values)
    if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise UnreadableItem("is a list of numbers that are not all from 0 to 255")
    return pixels.astype(np.uint8)


def whole_numbers(values: Sequence[Any]) -> np.ndarray:
    """Nested lists as an int64 array. Raises `UnreadableItem`.

    Read as objects first: numpy would make room for the longest text among the numbers, once for each number.
    """
    try:
        found = np.array(values, dtype=object)
        kinds = set(map(type, found.ravel().tolist()))
        if list in kinds or tuple in kinds:
            raise UnreadableItem("is a list whose rows have different lengths")
        if not kinds or not all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds):
            raise UnreadableItem("is a list of something other than whole numbers")
        return found.astype(np.int64)
    except OverflowError:
        raise UnreadableItem("is a list of numbers that are not all from 0 to 255") from None
    except ValueError:
        raise UnreadableItem("is a list whose rows have different lengths") from None


def _grey_pixels(rows: Sequence[Any]) -> np.ndarray | None:
    """Lists of whole numbers 0 to 255 of equal length, in a third of the time numpy takes; None for anything else."""
    if not rows or type(rows[0]) is not list or not rows[0] or type(rows[0][0]) is not int:
        return None
    width = len(rows[0])
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {width}:
        return None
    try:
        return np.frombuffer(bytearray().join(map(bytes, rows)), np.uint8).reshape(len(rows), width)
    except (TypeError, ValueError):
        return None


def bytes_from_base64(text: str) -> bytes:
    """The file in a base64 text, which may start as a data URL does and may hold line ends. Raises `UnreadableItem`.

    >>> bytes_from_base64("data:image/png;base64,iVBO Rw==")
    b'\x89PNG'
    """
    body = text.partition(",")[2] if text[:5].lower() == "data:" else text
    plain = "".join(body.split()).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableItem("is not base64") from None


def normalize(pixels: Any, recipe: ImageRecipe) -> Any:
    """(…, channels, height, width) float32 pixels of 0–255 → (x / 255 − mean) / std.

    Multiplied and added in place only, so that the same lines serve numpy arrays and torch tensors.

    >>> recipe = ImageRecipe(1, 2, 1, mean=(0.5,), std=(0.25,))
    >>> normalize(np.array([[[0.0, 255.0]]], dtype=np.float32), recipe).tolist()
    [[[-2.0, 2.0]]]
    """
    constants = getattr(pixels, "new_tensor", _float32)
    scale = [[[1 / (255 * std)]] for std in recipe.std]
    shift = [[[-mean / std]] for mean, std in zip(recipe.mean, recipe.std, strict=True)]
    out = pixels * constants(scale)
    out += constants(shift)
    return out


def thumbnail(item: str | Path | np.ndarray, longest: int = THUMBNAIL_SIDE) -> bytes:
    """A PNG or JPEG for a person to look at, at most `longest` pixels high and wide, by the same rules as a model's
    input. `item`: a file or uint8 pixels (H, W) or (H, W, channels). Raises `UnreadableItem`.
    """
    data = None if isinstance(item, np.ndarray) else read_file(item)
    if data is None:
        header = ImageHeader(item.shape[1], item.shape[0], item.ndim == 2 or item.shape[2] == 1)  # type: ignore[union-attr]
    else:
        header = read_header(data)
    scale = min(1.0, longest / max(header.width, header.height))
    size = (max(1, round(header.height * scale)), max(1, round(header.width * scale)))
    recipe = ImageRecipe(*size, 1 if header.is_gray else 3, "stretch")
    pixels = fit_pixels(item, recipe) if data is None else decode_image(data, recipe)  # type: ignore[arg-type]
    image = Image.fromarray(pixels[0] if header.is_gray else pixels.transpose(1, 2, 0))
    out = io.BytesIO()
    if max(size) <= SMALL_SIDE:
        image.save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=85)
    return out.getvalue()


def _float32(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UnreadableItem("is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        started = next((name for start, name in SIGNATURES.items() if data.startswith(start)), None)
        if started:
            raise UnreadableItem(f"starts as {started}, but its header is damaged or cut off") from None
        raise UnreadableItem(f"is not an image ({_looks_like(data)}); read are JPEG, PNG, WebP, BMP, GIF") from None
    except Exception as error:
        raise UnreadableItem(_broken(data, error)) from error
    if image.width * image.height > PIXEL_LIMIT:
        raise UnreadableItem(f"has {image.width:,} × {image.height:,} pixels, more than the limit of {PIXEL_LIMIT:,}")
    return image


def _looks_like(data: bytes) -> str:
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if start[:4] in (b"ii*\0", b"mm\0*") or start[4:8] == b"ftyp" or start.startswith(b"<svg"):
        return "another image format"
    try:
        data[:256].decode("utf-8")
    except UnicodeDecodeError:
        return "unknown bytes"
    return "a text"


def _broken(data: bytes, error: Exception) -> str:
    text = str(error).lower()
    is_short_webp = data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")
    if "truncated" in text or "end of" in text or isinstance(error, EOFError) or is_short_webp:
        return f"ends after {len(data):,} bytes"
    return f"is damaged ({type(error).__name__}: {error})"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is missing or cannot be read."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged metadata must not cost an image whose pixels are whole
        return 1


def _draft_size(image: Image.Image, recipe: ImageRecipe) -> tuple[int, int]:
    """The size below which the JPEG decoder must not shrink: both sides stay at least what the recipe needs."""
    if recipe.resize == "pad":
        return (min(image.width, recipe.width), min(image.height, recipe.height))
    side = max(recipe.width, recipe.height)
    return (side, side)


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    """On white, and grey or red, green and blue. A large image is changed band by band, to the same pixels."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.width * image.height <= BAND:
        return _changed(image, mode)
    found, rows = Image.new(mode, image.size), max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        found.paste(_changed(image.crop(box), mode), box)
    return found


def _changed(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        image = Image.fromarray((np.clip(values, 0, 65535) / 257).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert(mode)


def _room_bytes(image: Image.Image, recipe: ImageRecipe) -> int:
    """Of memory, that decoding an opened file takes at most: its pixels as they are stored, in the mode of the recipe
    and upright, and what the decoder has beside them."""
    pixels, wanted = image.width * image.height, 1 if recipe.channels == 1 else 4
    each = STORED_BYTES.get(image.mode, 4) + 2 * wanted
    if image.format == "WEBP":
        return max(WEBP_BYTES, WEBP_KEPT_BYTES + each) * pixels
    if image.format == "JPEG":
        image.draft("L" if recipe.channels == 1 else "RGB", _draft_size(image, recipe))
        return (JPEG_BYTES * pixels if "progressive" in image.info else 0) + each * image.width * image.height
    return each * pixels


def _resized(image: Image.Image, recipe: ImageRecipe) -> Image.Image:
    size = (recipe.width, recipe.height)
    if image.size == size:
        return image
    if recipe.resize == "stretch":
        return image.resize(size, Image.Resampling.BILINEAR)
    if recipe.resize == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
    return ImageOps.fit(image, size, Image.Resampling.BILINEAR)


def _to_array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
