"""A heat map laid over its picture, as PNG or JPEG bytes, and where it is brightest, in words."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image

SIDE = 128
COLDEST_SHARE, HOTTEST_SHARE = 0.3, 0.7  # of the colour in the mix
# Inferno (van der Walt and Smith, 2015) at 0, 1/8 … 1: lightness rises evenly, so that the order of its colours can be
# seen in grey and with any colour vision.
COLORS = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    dtype=np.float32,
)
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


def overlay(
    pixels: np.ndarray, heat: np.ndarray, *, side: int = SIDE, file_format: Literal["PNG", "JPEG"] = "PNG"
) -> bytes:
    """The picture in grey under the colours of its heat: dark violet for 0, over red to pale yellow for 1.

    `pixels`: (channels, height, width) uint8 as the model sees them; `heat`: (height, width) from 0 to 1. The longer
    side becomes `side` pixels where it is smaller and where the format is JPEG; the picture is enlarged without
    smoothing, the heat with it.

    >>> overlay(np.zeros((1, 4, 4), np.uint8), np.eye(4, dtype=np.float32))[:4]
    b'\\x89PNG'
    """
    height, width = heat.shape
    scale = side / max(height, width)
    if file_format == "PNG":
        scale = max(1.0, scale)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).convert("L")
    shrinks = scale < 1
    gray = np.asarray(picture.resize(size, Image.Resampling.BILINEAR if shrinks else Image.Resampling.NEAREST))
    enlarged = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    share = (COLDEST_SHARE + (HOTTEST_SHARE - COLDEST_SHARE) * enlarged)[..., None]
    mixed = (1 - share) * gray[..., None] + share * colors_of(enlarged)
    out = io.BytesIO()
    options = {"optimize": True} if file_format == "PNG" else {"quality": 80, "optimize": True}
    Image.fromarray(mixed.round().astype(np.uint8)).save(out, file_format, **options)
    return out.getvalue()


def colors_of(heat: np.ndarray) -> np.ndarray:
    """(…) from 0 to 1 → (…, 3) float32 colours of 0 to 255.

    >>> colors_of(np.array([0.0, 1.0])).tolist()
    [[0.0, 0.0, 4.0], [252.0, 255.0, 164.0]]
    """
    place = np.clip(heat, 0, 1) * (len(COLORS) - 1)
    below = np.minimum(place.astype(np.int64), len(COLORS) - 2)
    share = (place - below)[..., None]
    mixed: np.ndarray = ((1 - share) * COLORS[below] + share * COLORS[below + 1]).astype(np.float32)
    return mixed


def brightest_place(heat: np.ndarray) -> str:
    """In which third each way the largest value of (height, width) lies; `nowhere` when all are 0.

    >>> brightest_place(np.eye(9)[::-1] * np.arange(9))
    'top right'
    """
    if not heat.max() > 0:
        return "nowhere"
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    down, across = ROWS[int(row) * 3 // heat.shape[0]], COLUMNS[int(column) * 3 // heat.shape[1]]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"
