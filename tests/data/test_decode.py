"""Decoding image files once: the same pixels from the cache, every unreadable file reported, every damage noticed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danlu.base.machine import cache_folder
from danlu.base.settings import DataSettings
from danlu.data import decode
from danlu.data.decode import DecodedImages, decode_examples, look_at_headers
from danlu.inputs.images import ImageRecipe, decode_image
from danlu.sources import folder
from danlu.sources.examples import Examples, Problem
from pictures import write_pictures

RECIPE = ImageRecipe(8, 8, 3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "照片", count=4)


def read(root: Path) -> Examples:
    return folder.read(root, DataSettings())


def kept_pixels(decoded: DecodedImages) -> np.ndarray:
    return decoded.take(np.arange(len(decoded.kept)))[:]


def same(one: DecodedImages, two: DecodedImages) -> bool:
    return (
        np.array_equal(kept_pixels(one), kept_pixels(two))
        and np.array_equal(one.kept, two.kept)
        and one.hashes == two.hashes
        and one.problems == two.problems
    )


def cached(ending: str) -> Path:
    (path,) = (cache_folder() / "images").glob(f"*{ending}")
    return path


def test_pixels_are_those_of_the_one_preprocessing_in_the_order_of_the_examples(photos: Path) -> None:
    examples = read(photos)
    decoded = decode_examples(examples, RECIPE)
    files = [Path(item).read_bytes() for item in examples.items]  # type: ignore[arg-type]
    assert np.array_equal(decoded.pixels, np.stack([decode_image(data, RECIPE) for data in files]))
    assert decoded.hashes == tuple(hashlib.sha256(data).hexdigest() for data in files)
    assert decoded.kept.tolist() == list(range(12))
    assert (decoded.problems, decoded.from_cache) == ((), False)


def test_second_decode_comes_from_the_cache_and_is_equal(photos: Path) -> None:
    first, second = (decode_examples(read(photos), RECIPE) for _ in range(2))
    assert second.from_cache
    assert same(first, second)
    assert second.pixels.flags.writeable == first.pixels.flags.writeable


def test_many_files_decode_the_same_by_one_thread_and_by_several(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "BATCH_FILES", 2)
    results = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(decode, "SECONDS_WORTH_A_THREAD", seconds, raising=False)
        results.append(decode_examples(read(photos), RECIPE, use_cache=False))
    assert same(*results)


def test_without_cache_nothing_is_written(photos: Path) -> None:
    decode_examples(read(photos), RECIPE, use_cache=False)
    assert not cache_folder().exists()


def change_content(path: Path) -> None:
    Image.new("RGB", (16, 16)).save(path)


def change_content_keeping_the_size(path: Path) -> None:
    before = os.stat(path)
    other = path.with_name("001.jpg").read_bytes()
    path.write_bytes(other[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [change_content, change_content_keeping_the_size])
def test_changed_file_is_decoded_again(photos: Path, change: Callable[[Path], None]) -> None:
    first = decode_examples(read(photos), RECIPE)
    change(photos / "红" / "000.jpg")
    second = decode_examples(read(photos), RECIPE)
    assert not second.from_cache
    assert first.hashes != second.hashes


@pytest.mark.parametrize(
    "recipe",
    [ImageRecipe(9, 8, 3), ImageRecipe(8, 8, 1), ImageRecipe(8, 8, 3, "stretch")],
    ids=["size", "gray", "resize"],
)
def test_another_recipe_is_decoded_again(photos: Path, recipe: ImageRecipe) -> None:
    decode_examples(read(photos), RECIPE)
    decoded = decode_examples(read(photos), recipe)
    assert not decoded.from_cache
    assert decoded.pixels.shape == (12, *recipe.shape)


def test_other_statistics_need_no_new_decode(photos: Path) -> None:
    decode_examples(read(photos), RECIPE)
    assert decode_examples(read(photos), ImageRecipe(8, 8, 3, mean=(0.1,) * 3, std=(0.2,) * 3)).from_cache


def test_truncated_empty_and_foreign_files_are_reported_and_the_rest_is_kept(photos: Path) -> None:
    cut = photos / "blue" / "001.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    (photos / "green" / "000.jpg").write_bytes(b"")
    (photos / "红" / "003.jpg").write_text("<!DOCTYPE html>")
    examples = read(photos)
    decoded = decode_examples(examples, RECIPE)
    assert decoded.problems == (
        Problem("blue/001.jpg", "ends after 200 bytes"),
        Problem("green/000.jpg", "is empty (0 bytes)"),
        Problem("红/003.jpg", "is not an image (a web page); read are JPEG, PNG, WebP, BMP, GIF"),
    )
    assert decoded.kept.tolist() == [0, 2, 3, 5, 6, 7, 8, 9, 10]
    whole = [Path(examples.items[i]).read_bytes() for i in decoded.kept]  # type: ignore[arg-type]
    assert np.array_equal(kept_pixels(decoded), np.stack([decode_image(data, RECIPE) for data in whole]))
    assert decoded.hashes == tuple(hashlib.sha256(data).hexdigest() for data in whole)


def test_odd_metadata_is_neither_a_problem_nor_a_warning(photos: Path) -> None:
    for path in photos.rglob("*.jpg"):
        junk = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"
        Image.open(path).convert("RGB").save(path, exif=junk)
    assert len(look_at_headers(read(photos).items)) == 12
    assert decode_examples(read(photos), RECIPE).problems == ()
    script = (
        "import sys, pathlib\n"
        "from danlu.inputs.images import ImageRecipe, decode_image, read_header\n"
        "for path in pathlib.Path(sys.argv[1]).rglob('*.jpg'):\n"
        "    decode_image(path.read_bytes(), ImageRecipe(8, 8, 3)), read_header(path.read_bytes())\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(photos)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_unreadable_files_are_reported_every_time(photos: Path) -> None:
    (photos / "blue" / "001.jpg").write_bytes(b"")
    assert same(*(decode_examples(read(photos), RECIPE) for _ in range(2)))


def test_file_that_vanished_or_must_not_be_read_is_reported(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = read(photos)
    (photos / "blue" / "000.jpg").unlink()
    real = decode.read_file

    def refuse(path: Path) -> bytes:
        if Path(path).parts[-2:] == ("blue", "001.jpg"):
            monkeypatch.setattr("builtins.open", denied)
            try:
                return real(path)
            finally:
                monkeypatch.undo()
        return real(path)

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_file", refuse)
        decoded = decode_examples(examples, RECIPE, use_cache=False)
    assert decoded.problems == (
        Problem("blue/000.jpg", "no such file"),
        Problem("blue/001.jpg", "cannot be opened (Permission denied)"),
    )


def test_no_readable_file_at_all_gives_no_pixels_and_every_problem(photos: Path) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"")
    decoded = decode_examples(read(photos), RECIPE)
    assert kept_pixels(decoded).shape == (0, 3, 8, 8)
    assert len(decoded.problems) == 12
    assert look_at_headers(read(photos).items) == []


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(300))


def other_array(path: Path) -> None:
    np.save(path, np.zeros((12, 3, 4, 4), np.uint8))


def other_type(path: Path) -> None:
    np.save(path, np.zeros((12, 3, 8, 8), np.float32))


def other_list(path: Path) -> None:
    path.write_text('{"hashes": ["a"]}')


def no_list(path: Path) -> None:
    path.write_text('{"hashes": 12}')


def no_hashes(path: Path) -> None:
    path.write_text("{}")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        (".npy", empty), (".npy", cut_off), (".npy", random_bytes), (".npy", other_array), (".npy", other_type),
        (".npy", folder_instead),
        (".json", empty), (".json", cut_off), (".json", random_bytes), (".json", other_list), (".json", no_list),
        (".json", no_hashes), (".json", folder_instead),
    ],
)  # fmt: skip
def test_damaged_cache_is_said_and_decoded_again(
    photos: Path, ending: str, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    first = decode_examples(read(photos), RECIPE)
    damage(cached(ending))
    second = decode_examples(read(photos), RECIPE)
    said = capsys.readouterr().err
    assert said.startswith(f"the image cache `{cached('.npy')}` is damaged (")
    assert "); decoding again\n" in said
    assert not second.from_cache
    assert same(first, second)
    if damage is not folder_instead:
        assert decode_examples(read(photos), RECIPE).from_cache


@pytest.mark.parametrize("ending", [".npy", ".json"])
def test_half_of_a_cache_is_none(photos: Path, ending: str) -> None:
    first = decode_examples(read(photos), RECIPE)
    cached(ending).unlink()
    second = decode_examples(read(photos), RECIPE)
    assert not second.from_cache
    assert same(first, second)


def test_cache_that_would_run_code_is_never_unpickled(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch marker",)

    decode_examples(read(photos), RECIPE)
    np.save(cached(".npy"), np.array([Malicious()] * 12, dtype=object), allow_pickle=True)
    assert not decode_examples(read(photos), RECIPE).from_cache
    assert "is damaged (" in capsys.readouterr().err
    assert not Path("marker").exists()


def test_cache_that_cannot_be_written_is_a_warning_and_the_pixels_come_all_the_same(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("DANLU_CACHE", "file")
    decoded = decode_examples(read(photos), RECIPE)
    assert len(decoded.pixels) == 12
    assert capsys.readouterr().err.startswith("warning: decoded images are not kept for the next run: ")


def test_full_disk_leaves_no_half_cache(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert len(decode_examples(read(photos), RECIPE).pixels) == 12
    assert "No space left on device" in capsys.readouterr().err
    assert list((cache_folder() / "images").iterdir()) == []


def test_moved_folder_is_decoded_again_and_gives_the_same(photos: Path) -> None:
    first = decode_examples(read(photos), RECIPE)
    moved = Path(shutil.move(photos, photos.with_name("moved")))
    second = decode_examples(read(moved), RECIPE)
    assert not second.from_cache
    assert first.hashes == second.hashes


# --- arrays and headers


def array_examples(items: np.ndarray) -> Examples:
    count = len(items)
    names = tuple(str(i) for i in range(count))
    return Examples("images", items, np.arange(count) % 2, ("a", "b"), names, ("",) * count, "invented")


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 1), (5, 8, 8, 3), (5, 11, 6, 3)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_come_by_the_same_rules_as_png_files_of_them(
    shape: tuple[int, ...], channels: int, tmp_path: Path
) -> None:
    items = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    recipe = ImageRecipe(8, 8, channels)
    decoded = decode_examples(array_examples(items), recipe)
    for index, item in enumerate(items):
        Image.fromarray(item.squeeze()).save(tmp_path / "a.png")
        assert np.array_equal(decoded.pixels[index], decode_image((tmp_path / "a.png").read_bytes(), recipe))
    assert decoded.hashes[0] == hashlib.sha256(items[0].tobytes()).hexdigest()


def test_headers_of_an_array_are_its_one_shape() -> None:
    (header,) = look_at_headers(np.zeros((9, 4, 6), np.uint8))
    assert (header.width, header.height, header.is_gray) == (6, 4, True)


def test_headers_are_a_sample_over_all_files_and_pass_over_unreadable_ones(photos: Path) -> None:
    (photos / "blue" / "000.jpg").write_bytes(b"")
    headers = look_at_headers(read(photos).items, sample=6)
    assert len(headers) == 5
    assert {(header.width, header.height, header.is_gray) for header in headers} == {(16, 16, False)}
