"""Folders of class folders: what counts as a class, what is left out, and that nothing is left out in silence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from danlu.base.errors import DataError
from danlu.base.settings import DataSettings
from danlu.sources import folder
from danlu.sources.examples import Examples, Problem
from danlu.sources.recognize import read_examples, recognize

ROOT = Path("photos")


def plant(*names: str) -> None:
    for name in names:
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def read(place: str | Path = ROOT) -> Examples:
    return folder.read(place, DataSettings())


def refusal(place: str | Path = ROOT) -> str:
    with pytest.raises(DataError) as caught:
        read(place)
    return str(caught.value)


def test_sub_folders_are_classes_and_files_come_in_the_order_of_their_paths() -> None:
    plant("猫/b.png", "dog/10.JPG", "dog/2.jpeg", "猫/a.webp")
    examples = read()
    assert examples.classes == ("dog", "猫")
    assert examples.keys == ("dog/10.JPG", "dog/2.jpeg", "猫/a.webp", "猫/b.png")
    assert examples.labels.tolist() == [0, 0, 1, 1]
    assert set(examples.parts) == {""}
    assert examples.description == "folder of 4 images in 2 classes, without parts"
    assert (examples.problems, examples.notes) == ((), ())
    assert recognize(ROOT) == "folder"
    assert read_examples(ROOT, DataSettings()).keys == examples.keys


def test_part_folders_on_top_become_parts_with_one_class_map() -> None:
    plant("Train/cat/1.jpg", "Train/dog/1.jpg", "val/cat/2.jpg", "testing/dog/3.jpg")
    examples = read()
    assert examples.classes == ("cat", "dog")
    assert dict(zip(examples.keys, examples.parts, strict=True)) == {
        "Train/cat/1.jpg": "train",
        "Train/dog/1.jpg": "train",
        "testing/dog/3.jpg": "test",
        "val/cat/2.jpg": "validation",
    }


def test_folders_beside_the_parts_are_told() -> None:
    plant("train/cat/1.jpg", "train/dog/1.jpg", "raw/x.jpg")
    assert "folders beside train are not read: raw" in read().notes


def test_images_in_nested_folders_belong_to_the_class_on_top() -> None:
    plant("cat/2024/may/1.jpg", "cat/2.jpg", "dog/a/3.jpg")
    assert read().keys == ("cat/2.jpg", "cat/2024/may/1.jpg", "dog/a/3.jpg")
    assert read().labels.tolist() == [0, 0, 1]


def test_folder_that_only_wraps_the_real_one_is_stepped_into_and_told() -> None:
    plant("photos-v2/cat/1.jpg", "photos-v2/dog/2.jpg", "__MACOSX/cat/1.jpg")
    assert read().classes == ("cat", "dog")
    assert read().notes == ("read from `photos/photos-v2`, the only folder inside",)


def test_hidden_files_and_folders_are_no_examples() -> None:
    plant("cat/1.jpg", "cat/.2.jpg", ".git/3.jpg", "cat/.thumbs/4.jpg", "dog/5.jpg", ".DS_Store")
    assert read().keys == ("cat/1.jpg", "dog/5.jpg")
    assert read().notes == ()


def test_files_that_are_not_images_of_a_class_are_counted_by_ending() -> None:
    plant("cat/1.jpg", "dog/2.jpg", "dog/notes.txt", "dog/clip.mp4", "README.TXT", "loose.jpg", "dog/Makefile")
    assert read().notes == (
        "5 files are not images of a class and are not read: 1 × .jpg, 1 × .mp4, 2 × .txt, 1 × Makefile",
    )


def test_loose_files_beside_and_inside_parts_are_counted() -> None:
    plant("train/cat/1.jpg", "train/dog/2.jpg", "train/loose.jpg", "top.csv")
    assert read().notes == ("2 files are not images of a class and are not read: 1 × .csv, 1 × .jpg",)


def test_folder_without_an_image_is_no_class_and_is_told() -> None:
    plant("cat/1.jpg", "dog/2.jpg", "bird/readme.md")
    assert read().classes == ("cat", "dog")
    assert "folders without an image are not classes: bird" in read().notes


def test_classes_that_differ_only_in_case_stay_apart_and_are_told() -> None:
    plant("Cat/1.jpg", "cat/2.jpg")
    assert read().classes == ("Cat", "cat")
    assert read().notes == ("classes `Cat` and `cat` differ only in case and stay apart",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((".keep",), "`photos` holds no images\n\nhint: expected one sub-folder a class"),
        (("cat/.keep", "dog/a.txt"), "`photos` holds no images\n\nhint: expected one sub-folder a class"),
        (("1.jpg", "2.png"), "`photos` holds 2 images but no class folders\n\nhint: expected one sub-folder a class"),
        (("cat/1.jpg", "2.png"), "`photos` has one class only: `cat`\n\nhint: a classifier needs at least two classes"),
    ],
    ids=["empty", "no-images", "no-class-folders", "one-class"],
)
def test_folder_that_cannot_be_classified_says_what_it_holds(names: tuple[str, ...], expected: str) -> None:
    plant(*names)
    assert refusal().startswith(expected)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("nowhere", "cannot read folder `nowhere`: No such file or directory"),
        ("file", "cannot read folder `file`: Not a directory"),
        ("x" * 300, f"cannot read folder `{'x' * 300}`: File name too long"),
    ],
    ids=["missing", "file", "long-name"],
)
def test_place_that_is_no_folder_is_a_data_error(place: str, expected: str) -> None:
    Path("file").write_text("")
    assert refusal(place) == expected


@pytest.mark.parametrize("closed", ["photos", "photos/train", "photos/val"])
def test_folder_that_must_not_be_listed_is_a_data_error(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg")
    listdir = os.listdir

    def refuse(place: Path) -> list[str]:
        if Path(place) == Path(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return listdir(place)

    monkeypatch.setattr(folder.os, "listdir", refuse)
    assert refusal() == f"cannot read folder `{closed}`: Permission denied"


def test_class_folder_that_must_not_be_listed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    plant("cat/1.jpg", "dog/2.jpg", "dog/closed/3.jpg")
    scandir = os.scandir

    def refuse(place: str) -> object:
        if str(place).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert read().problems == (Problem("dog/closed", "cannot be listed (Permission denied)"),)
    assert read().keys == ("cat/1.jpg", "dog/2.jpg")


@pytest.mark.parametrize(
    ("target", "key"),
    [(".", "cat/loop"), ("..", "cat/loop"), ("../..", "cat/loop/wrap")],
    ids=["itself", "root", "above-root"],
)
def test_link_loop_ends_and_is_a_problem(target: str, key: str) -> None:
    plant("wrap/cat/1.jpg", "wrap/dog/2.jpg")
    os.symlink(target, ROOT / "wrap/cat/loop")
    examples = folder.read(ROOT / "wrap", DataSettings())
    assert examples.keys == ("cat/1.jpg", "dog/2.jpg")
    assert examples.problems == (Problem(key, "is a link to a folder read elsewhere"),)


def test_link_to_a_folder_elsewhere_is_followed() -> None:
    plant("cat/1.jpg", "dog/2.jpg")
    Path("more").mkdir()
    Path("more/3.jpg").write_bytes(b"x")
    os.symlink(Path("more").resolve(), ROOT / "cat/more")
    assert read().keys == ("cat/1.jpg", "cat/more/3.jpg", "dog/2.jpg")


def test_links_that_lead_nowhere_are_no_traceback() -> None:
    plant("cat/1.jpg", "dog/2.jpg")
    os.symlink("self", ROOT / "self")
    os.symlink("nothing", ROOT / "cat/gone.jpg")
    examples = read()
    assert examples.keys == ("cat/1.jpg", "cat/gone.jpg", "dog/2.jpg")
    assert examples.notes == ("1 files are not images of a class and are not read: 1 × self",)


def test_names_that_are_not_utf8_are_spelled_so_that_they_can_be_written() -> None:
    plant("dog/1.jpg")
    bad = os.fsencode(ROOT) + b"/\xc3\xa8\xff"
    os.mkdir(bad)
    with open(bad + b"/\xfe.jpg", "wb") as file:
        file.write(b"x")
    examples = read()
    assert examples.classes == ("dog", "è\\xff")
    assert examples.keys == ("dog/1.jpg", "è\\xff/\\xfe.jpg")
    assert Path(examples.items[1]).read_bytes() == b"x"
    "".join((*examples.keys, *examples.classes, *examples.notes)).encode("utf-8")


def test_bad_names_in_notes_can_be_written_too() -> None:
    plant("train/cat/1.jpg", "train/dog/1.jpg")
    for name in (b"/\xff", b"/train/\xfe"):
        os.mkdir(os.fsencode(ROOT) + name)
    notes = "\n".join(read().notes)
    assert "folders beside train are not read: \\xff" in notes
    assert "folders without an image are not classes: \\xfe" in notes
    notes.encode("utf-8")


def test_longest_and_chinese_names_are_read() -> None:
    long = "长" * 83 + ".jpg"  # 253 bytes
    plant(f"猫/{long}", "狗/图 片.jpg")
    assert set(read().keys) == {f"猫/{long}", "狗/图 片.jpg"}
    assert read().classes == ("狗", "猫")


def test_class_folder_that_vanishes_while_it_is_read_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    plant("cat/1.jpg", "cat/sub/2.jpg", "dog/3.jpg")
    walk = os.walk

    def vanishing(top: Path, **options: object):  # type: ignore[no-untyped-def]
        for here, folders, files in walk(top, **options):  # type: ignore[call-overload]
            yield here, folders, files
            if Path(here) == ROOT / "cat" and (ROOT / "cat/sub").exists():
                (ROOT / "cat/sub/2.jpg").unlink()
                (ROOT / "cat/sub").rmdir()

    monkeypatch.setattr(folder.os, "walk", vanishing)
    examples = read()
    assert examples.keys == ("cat/1.jpg", "dog/3.jpg")
    assert examples.problems == (Problem("cat/sub", "cannot be listed (No such file or directory)"),)
