"""From the bytes of an image file to the pixels a model sees: every format, every mode, every kind of damage."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danlu.base.errors import UnreadableItem
from danlu.inputs.images import (
    FORMATS,
    ImageRecipe,
    bytes_from_base64,
    decode_image,
    fit_image,
    fit_pixels,
    normalize,
    pixels_from_list,
    read_file,
    read_header,
)

RGB = ImageRecipe(8, 8, 3)
GRAY = ImageRecipe(8, 8, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_flipped_byte(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def reason(data: bytes, recipe: ImageRecipe = RGB) -> str:
    with pytest.raises(UnreadableItem) as caught:
        decode_image(data, recipe)
    return caught.value.message


PNG = encoded(PICTURE, "PNG")
PNG_HEADER_END = 33  # signature 8, IHDR 25
WHOLE = {form: encoded(PICTURE, form) for form in FORMATS}
TEXT_BOMB = chunk(b"zTXt", b"note\0\0" + zlib.compress(b"a" * 8_000_000))
MANY_PIXELS = PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + PNG[PNG_HEADER_END:]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not an image", "is not an image (a text); read are JPEG, PNG, WebP, BMP, GIF"),
        ("一段文字".encode(), "is not an image (a text); read are JPEG, PNG, WebP, BMP, GIF"),
        (b"\n <!DOCTYPE html><html></html>", "is not an image (a web page); read are JPEG, PNG, WebP, BMP, GIF"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is not an image (a Git LFS pointer); read are"),
        (np.random.default_rng(1).bytes(500), "is not an image (unknown bytes); read are"),
        (encoded(PICTURE, "TIFF"), "is not an image (another image format); read are"),
        (b"<svg></svg>", "is not an image (another image format); read are"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "is not an image (another image format); read are"),
        (encoded(PICTURE, "PPM"), "is not an image (unknown bytes); read are"),
        (PNG[:30], "starts as PNG, but its header is damaged or cut off"),
        (with_flipped_byte(PNG, 30), "starts as PNG, but its header is damaged or cut off"),
        (WHOLE["GIF"][:20], "starts as GIF, but its header is damaged or cut off"),
        (WHOLE["JPEG"][:20], "starts as JPEG, but its header is damaged or cut off"),
        (with_flipped_byte(PNG, PNG.index(b"IDAT") + 50), "is damaged (OSError: broken data stream"),
        (MANY_PIXELS, "has 60,000 × 60,000 pixels, more than the limit of 50,000,000"),
        (PNG[:PNG_HEADER_END] + TEXT_BOMB + PNG[PNG_HEADER_END:], "is damaged (ValueError: Decompressed data too"),
        (PNG[:-12] + TEXT_BOMB + PNG[-12:], "is damaged (ValueError: Decompressed data too large"),
        (b"https://example.org/cat.jpg", "is not an image (a text)"),
        (b"../data/cat.jpg", "is not an image (a text)"),
    ],
    ids=[
        "empty", "text", "Chinese-text", "HTML", "git-lfs", "random", "tiff", "svg", "avif", "ppm", "png-cut-in-header",
        "png-wrong-header-checksum", "gif-cut-in-header", "jpeg-cut-in-header", "png-damaged-pixels", "too-many-pixels",
        "text-bomb-before-pixels", "text-bomb-behind-pixels", "address", "path",
    ],
)  # fmt: skip
def test_unreadable_bytes_say_what_they_are(data: bytes, expected: str) -> None:
    assert reason(data).startswith(expected)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_truncated_file_says_after_how_many_bytes_it_ends(form: str) -> None:
    half = len(WHOLE[form]) // 2
    assert reason(WHOLE[form][:half]) == f"ends after {half:,} bytes"


def test_truncated_jpeg_says_so_even_when_only_its_last_byte_is_missing() -> None:
    length = len(WHOLE["JPEG"]) - 1
    assert reason(WHOLE["JPEG"][:length]) == f"ends after {length:,} bytes"


@pytest.mark.parametrize("form", FORMATS)
def test_no_cut_of_a_file_raises_anything_but_unreadable_item(form: str) -> None:
    data = WHOLE[form]
    for length in [*range(0, 64, 3), *range(64, len(data), 211)]:
        for read in (lambda d: decode_image(d, RGB), read_header):
            try:
                read(data[:length])
            except UnreadableItem as error:
                assert error.message


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_raises_nothing_but_unreadable_item(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(WHOLE[FORMATS[seed % len(FORMATS)]])
    for place in rng.integers(0, len(data), 4):
        data[place] = rng.integers(256)
    for read in (lambda d: decode_image(d, RGB), read_header):
        try:
            read(bytes(data))
        except UnreadableItem as error:
            assert error.message


def test_header_of_a_truncated_png_is_read_without_decoding_it() -> None:
    header = read_header(PNG[: len(PNG) // 2])
    assert (header.width, header.height, header.is_gray) == (40, 40, False)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_lossless_formats_give_the_very_pixels(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    decoded = decode_image(encoded(PICTURE, form, **options), ImageRecipe(40, 40, 3))
    assert np.array_equal(decoded, PIXELS.transpose(2, 0, 1))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("recipe", [RGB, GRAY], ids=["rgb", "gray"])
def test_every_format_gives_the_shape_of_the_recipe(form: str, recipe: ImageRecipe) -> None:
    decoded = decode_image(WHOLE[form], recipe)
    assert decoded.shape == recipe.shape
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("recipe", [RGB, GRAY], ids=["rgb", "gray"])
def test_every_mode_gives_the_brightness_it_was_made_with(mode: str, recipe: ImageRecipe) -> None:
    level = 255 if mode == "1" else 120
    gray = Image.new("L", (20, 20), level)
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), level * 257, np.uint16))
    elif mode == "P":
        image = gray.quantize(4)
    elif mode in ("LA", "RGBA"):
        image = gray.convert(mode)
    else:
        image = gray.convert("RGB").convert(mode)
    decoded = decode_image(encoded(image, "JPEG" if mode == "CMYK" else "PNG"), recipe)
    assert decoded.shape == recipe.shape
    assert abs(decoded.astype(int) - level).max() <= 2


@pytest.mark.parametrize(("mode", "color"), [("RGBA", (200, 0, 0, 0)), ("LA", (10, 0))])
def test_transparent_pixels_are_laid_on_white(mode: str, color: tuple[int, ...]) -> None:
    assert (decode_image(encoded(Image.new(mode, (8, 8), color), "PNG"), RGB) == 255).all()


def test_transparent_palette_colour_is_laid_on_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([9, 9, 9, 250, 0, 0])
    assert (decode_image(encoded(image, "PNG", transparency=0), RGB) == 255).all()


def kinds_of_images() -> dict[str, bytes]:
    """Every way in which a file stores pixels otherwise than a model reads them, 30 × 20, some lying on their side."""
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    rgba = Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8))
    wide = Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16))
    palette = rgba.convert("RGB").quantize(16)
    return {
        "RGBA": encoded(rgba, "PNG", exif=exif),
        "RGBA WebP": encoded(rgba, "WEBP", lossless=True, exif=exif),
        "LA": encoded(rgba.convert("LA"), "PNG"),
        "1": encoded(rgba.convert("1"), "PNG"),
        "P": encoded(palette, "PNG"),
        "P with a transparent colour": encoded(palette, "PNG", transparency=3),
        "P with transparencies": encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "RGB with a transparent colour": encoded(rgba.convert("RGB"), "PNG", transparency=tuple(PIXELS[0, 0].tolist())),
        "L with a transparent colour": encoded(rgba.convert("L"), "PNG", transparency=7),
        "I;16": encoded(wide, "PNG"),
        "CMYK": encoded(rgba.convert("RGB").convert("CMYK"), "JPEG", exif=exif),
        "GIF": encoded(palette, "GIF", transparency=3),
    }


@pytest.mark.parametrize("recipe", [ImageRecipe(10, 8, 3), ImageRecipe(10, 8, 1)], ids=["rgb", "gray"])
@pytest.mark.parametrize("name", kinds_of_images())
def test_large_image_is_changed_band_by_band_to_the_same_pixels(
    name: str, recipe: ImageRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = kinds_of_images()[name]
    whole = decode_image(data, recipe)
    assert whole.std() > 5, "not all the same"
    for band in (1, 100, 599):
        monkeypatch.setattr("danlu.inputs.images.BAND", band)
        assert np.array_equal(decode_image(data, recipe), whole)


PEAK = """
import sys
from danlu.inputs.images import ImageRecipe, ManyPixels, decode_image
data, recipe = sys.stdin.buffer.read(), ImageRecipe(28, 28, int(sys.argv[1]))
def told(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) * 1024
try:
    decode_image(data, recipe, at_most=0)
except ManyPixels as image:
    room = image.room_bytes
before = told("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
decode_image(data, recipe)
print(room, told("VmHWM") - before)
"""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "name", ["RGBA PNG", "RGBA WebP", "RGB WebP", "LA PNG", "I;16 PNG", "P GIF", "RGB JPEG", "CMYK JPEG"]
)
def test_decoding_takes_no_more_memory_than_is_told_before(name: str, channels: int) -> None:
    mode, form = name.split()
    side, exif = 3000, Image.Exif()
    exif[0x0112] = 6
    options: dict[str, object] = {"progressive": mode == "RGB"} if form == "JPEG" else {"lossless": True, "method": 0}
    image = Image.fromarray(np.zeros((side, side), np.uint16)) if mode == "I;16" else Image.new(mode, (side, side), 99)
    data = encoded(image, form, **options, **({} if form == "GIF" else {"exif": exif}))
    told = subprocess.run(
        [sys.executable, "-c", PEAK, str(channels)], input=data, capture_output=True, check=True, timeout=60
    ).stdout
    room, taken = map(int, told.split())
    print(f"{name} for {channels}: told {room / side**2:.1f} bytes a pixel, taken {taken / side**2:.1f}")
    assert taken < room + (16 << 20)  # the copies of a band


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_stands_upright_in_every_format(form: str, orientation: int) -> None:
    upright = np.zeros((32, 64), np.uint8)
    upright[:16, :32] = 250  # bright at the top left, wider than high
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = Image.fromarray(upright).convert("RGB")
    if orientation in back:
        stored = stored.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, form, exif=exif)
    header = read_header(data)
    assert (header.width, header.height) == (64, 32)
    decoded = decode_image(data, ImageRecipe(32, 64, 1))[0].astype(int)
    assert decoded[4:12, 4:28].min() > 200
    assert decoded[20:, :].max() < 50
    assert decoded[:, 36:].max() < 50


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("junk", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_metadata_does_not_cost_a_whole_image(form: str, junk: bytes) -> None:
    data = encoded(PICTURE, form, exif=junk)
    assert decode_image(data, RGB).shape == RGB.shape
    assert (read_header(data).width, read_header(data).height) == (40, 40)


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1)], ids=str)
@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_extreme_sides_are_read_by_every_resize_rule(size: tuple[int, int], resize: str, form: str) -> None:
    data = encoded(Image.new("RGB", size, (90, 90, 90)), form)
    decoded = decode_image(data, ImageRecipe(8, 8, 3, resize))  # type: ignore[arg-type]
    assert decoded.shape == (3, 8, 8)
    assert decoded.max() <= 92


def test_only_the_first_of_thousands_of_frames_counts() -> None:
    frames = [Image.new("L", (4, 4), 10 + index % 200) for index in range(2000)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_image(data, GRAY) == 10).all()


def test_large_jpeg_shrunk_by_its_decoder_looks_like_one_shrunk_afterwards() -> None:
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp, (400, 400)).copy()).convert("RGB")
    fast = decode_image(encoded(image, "JPEG", quality=95), RGB)
    slow = decode_image(encoded(image, "PNG"), RGB)
    assert abs(fast.astype(int) - slow).max() <= 4


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("nowhere.jpg", "no such file"),
        ("", "no such file"),
        ("https://example.org/a.jpg", "is an address, not a file; danlu fetches nothing"),
        ("data:image/png;base64,iVBORw0KGgo=", "is a data URL, not a file; its decoded bytes are read"),
        (".", "is not a regular file"),
        ("pipe", "is not a regular file"),
        ("x" * 300 + ".jpg", "cannot be opened (File name too long)"),
        ("a\0b.jpg", "cannot be opened (embedded null byte)"),
        ("loop.jpg", "cannot be opened (Too many levels of symbolic links)"),
    ],
    ids=["missing", "empty-name", "address", "data-url", "folder", "fifo", "long-name", "nul", "link-loop"],
)
def test_place_that_is_no_file_says_why(place: str, expected: str) -> None:
    os.mkfifo("pipe")
    os.symlink("loop.jpg", "loop.jpg")
    with pytest.raises(UnreadableItem) as caught:
        read_file(place)
    assert caught.value.message == expected


def test_file_with_a_chinese_name_is_read() -> None:
    Path("照片 一.png").write_bytes(PNG)
    assert read_file(Path("照片 一.png")) == PNG


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.zeros((8, 8)), "expected uint8 pixels (0 to 255), got float64"),
        (np.zeros(8, np.uint8), "expected pixels as (height, width) or (height, width, channels), got (8,)"),
        (np.zeros((0, 8), np.uint8), "holds no pixels: its shape is (0, 8)"),
        (np.zeros((8, 8, 5), np.uint8), "expected pixels as (height, width) or (height, width, channels)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "expected pixels as"),
    ],
    ids=["float", "flat", "no-pixels", "five-channels", "batch"],
)  # fmt: skip
def test_wrong_array_says_what_it_is(pixels: np.ndarray, expected: str) -> None:
    with pytest.raises(UnreadableItem) as caught:
        fit_pixels(pixels, RGB)
    assert caught.value.message.startswith(expected)


@pytest.mark.parametrize("recipe", [RGB, GRAY, ImageRecipe(40, 40, 3), ImageRecipe(40, 40, 1, "pad")], ids=str)
def test_array_is_brought_to_the_same_pixels_as_a_file(recipe: ImageRecipe) -> None:
    assert np.array_equal(fit_pixels(PIXELS, recipe), decode_image(PNG, recipe))


def test_normalize_is_the_textbook_formula_per_channel() -> None:
    recipe = ImageRecipe(2, 2, 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 2)).astype(np.float32)
    mean, std = (np.array(values)[:, None, None] for values in (recipe.mean, recipe.std))
    assert np.allclose(normalize(pixels, recipe), (pixels / 255 - mean) / std, atol=1e-5)
    assert pixels.max() > 1  # the input itself is left as it was


def test_recipe_survives_json() -> None:
    import json
    from dataclasses import asdict

    recipe = ImageRecipe(3, 4, 3, "pad", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert ImageRecipe.from_json(json.loads(json.dumps(asdict(recipe)))) == recipe


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_image_stands_upright_and_on_white_as_its_file_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 4), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", exif=exif)
    recipe = ImageRecipe(8, 8, 3)
    assert np.array_equal(fit_image(Image.open(out), recipe), decode_image(out.getvalue(), recipe))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([[1, 2], [3]], "different lengths"),
        ([[1, 300]], "not all from 0 to 255"),
        ([[-1, 3]], "not all from 0 to 255"),
        ([[0.5, 1.0]], "other than whole numbers"),
        ([["a"]], "other than whole numbers"),
    ],
)
def test_list_that_is_no_picture_is_told(values: list[object], told: str) -> None:
    with pytest.raises(UnreadableItem, match=told):
        pixels_from_list(values)


@pytest.mark.parametrize("text", ["***", "iVBO-w", "data:image/png;base64,é"])
def test_text_that_is_not_base64_is_told(text: str) -> None:
    with pytest.raises(UnreadableItem, match="is not base64"):
        bytes_from_base64(text)
