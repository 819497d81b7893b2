"""Images that come as arrays: IDX files, CIFAR-10's binary files and .npz, whole and damaged."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from danlu.base.errors import DataError
from danlu.base.settings import DataSettings
from danlu.sources import cifar, idx, npz
from danlu.sources.recognize import read_examples, recognize

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2, 0, 1], dtype=np.uint8)
IDX, CIFAR, NPZ = Path("idx"), Path("cifar"), Path("a.npz")


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(images: str = "train-images-idx3-ubyte", labels: str = "train-labels-idx1-ubyte") -> None:
    IDX.mkdir(exist_ok=True)
    for name, array in ((images, PIXELS), (labels, LABELS)):
        data = idx_bytes(array)
        (IDX / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def refusal(read, place: Path) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as caught:
        read(place)
    return str(caught.value)


# --- IDX


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
    ],
)
def test_idx_files_are_read_raw_and_zipped(images: str, labels: str) -> None:
    write_idx(images, labels)
    assert recognize(IDX) == "idx"
    examples = read_examples(IDX, DataSettings())
    assert np.array_equal(examples.items, PIXELS)
    assert examples.labels.tolist() == LABELS.tolist()
    assert examples.classes == ("0", "1", "2")
    assert examples.keys[:2] == ("train/00000", "train/00001")
    assert set(examples.parts) == {""}


def test_idx_t10k_files_are_the_test_part_and_come_last() -> None:
    write_idx("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    write_idx()
    examples = idx.read(IDX)
    assert examples.parts == ("train",) * 6 + ("test",) * 6
    assert examples.keys[6] == "test/00000"


IDX_DAMAGES = {
    "empty": (b"", "is no IDX file of unsigned bytes with 3 dimensions"),
    "random": (b"\x07" * 500, "is no IDX file of unsigned bytes with 3 dimensions"),
    "web page": (b"<!DOCTYPE html>", "is no IDX file of unsigned bytes with 3 dimensions"),
    "floats": (bytes((0, 0, 13, 3)) + bytes(12), "is no IDX file of unsigned bytes with 3 dimensions"),
    "labels": (idx_bytes(LABELS), "is no IDX file of unsigned bytes with 3 dimensions"),
    "truncated": (idx_bytes(PIXELS)[:-1], "holds 119 bytes, its header promises 120"),
    "too long": (idx_bytes(PIXELS) + b"x", "holds 121 bytes, its header promises 120"),
    "huge": (
        bytes((0, 0, 8, 3)) + b"\xff" * 12,
        f"holds 0 bytes, its header promises {(2**32 - 1) ** 3:,}",
    ),
}


@pytest.mark.parametrize("damage", IDX_DAMAGES)
def test_damaged_idx_file_is_named(damage: str) -> None:
    write_idx()
    data, expected = IDX_DAMAGES[damage]
    (IDX / "train-images-idx3-ubyte").write_bytes(data)
    assert refusal(idx.read, IDX) == f"`idx/train-images-idx3-ubyte` {expected}"


@pytest.mark.parametrize("cut", [0, 1, 20, -10], ids=["not-gzip", "one-byte", "in-header", "in-data"])
def test_damaged_zip_is_named(cut: int) -> None:
    write_idx("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    path = IDX / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut] if cut else b"not gzip at all")
    assert refusal(idx.read, IDX).startswith("`idx/train-images-idx3-ubyte.gz` cannot be read: ")


def test_flipped_byte_in_a_zip_is_named() -> None:
    write_idx("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    path = IDX / "train-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    for place in range(15, len(data) - 8, 7):
        damaged = data.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        assert refusal(idx.read, IDX).startswith("`idx/train-images-idx3-ubyte.gz` ")


def test_idx_folder_that_does_not_fit_together_says_what_is_wrong() -> None:
    write_idx()
    (IDX / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:4]))
    assert refusal(idx.read, IDX) == "`idx`: train has 6 images but 4 labels"
    (IDX / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS * 0))
    assert refusal(idx.read, IDX).startswith("`idx` has one class only: `0`")
    (IDX / "train-labels-idx1-ubyte").unlink()
    assert refusal(idx.read, IDX) == "`idx` holds images of 'train' but no `train-labels-idx1-ubyte`"
    write_idx()
    (IDX / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(PIXELS[:, :3]))
    (IDX / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS))
    assert refusal(idx.read, IDX) == "`idx` holds images of different sizes: [(3, 5), (4, 5)]"


def test_label_beyond_the_known_classes_is_told() -> None:
    write_idx()
    with pytest.raises(DataError, match="`idx`: train has label 2 but there are 2 classes"):
        idx.read_folder(IDX, ("no", "yes"))
    assert idx.read_folder(IDX, ("a", "b", "c", "never")).classes == ("a", "b", "c")


def test_folder_without_idx_files_is_a_data_error() -> None:
    assert refusal(idx.read, Path("nowhere")) == "cannot read folder `nowhere`: No such file or directory"
    IDX.mkdir()
    assert refusal(idx.read, IDX) == "`idx` holds no `*images-idx3-ubyte` file, raw or .gz"


# --- CIFAR-10


def write_cifar(name: str, labels: list[int]) -> np.ndarray:
    CIFAR.mkdir(exist_ok=True)
    rng = np.random.default_rng(len(labels))
    pixels = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    records = [bytes([label]) + image.tobytes() for label, image in zip(labels, pixels, strict=True)]
    (CIFAR / name).write_bytes(b"".join(records))
    return pixels.transpose(0, 2, 3, 1)


def test_cifar_files_become_train_and_test_with_their_class_names() -> None:
    train, test = write_cifar("data_batch_1.bin", [0, 9, 3]), write_cifar("test_batch.bin", [1, 2])
    (CIFAR / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")
    assert recognize(CIFAR) == "cifar"
    examples = read_examples(CIFAR, DataSettings())
    assert np.array_equal(examples.items, np.concatenate([train, test]))
    assert [examples.classes[n] for n in examples.labels] == ["airplane", "truck", "cat", "automobile", "bird"]
    assert examples.parts == ("train",) * 3 + ("test",) * 2
    assert examples.keys[3] == "test_batch/00000"


def test_cifar_files_without_a_test_batch_state_no_parts() -> None:
    write_cifar("data_batch_1.bin", [0, 1])
    assert cifar.read(CIFAR).parts == ("", "")
    assert cifar.read(CIFAR).classes == tuple("0123456789")


def test_damaged_cifar_folder_says_what_is_wrong() -> None:
    assert refusal(cifar.read, CIFAR) == "`cifar` holds no `data_batch_*.bin`"
    write_cifar("data_batch_1.bin", [0, 11])
    assert refusal(cifar.read, CIFAR) == "`cifar` has label 11 but 10 class names"
    path = CIFAR / "data_batch_1.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(cifar.read, CIFAR) == "`cifar/data_batch_1.bin` has 6,145 bytes, not a multiple of 3,073"
    path.write_bytes(b"")
    assert refusal(cifar.read, CIFAR) == "`cifar/data_batch_1.bin` has 0 bytes, not a multiple of 3,073"


# --- npz


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("x_train", "y_train", "x_test", "y_test"), ("train", "test")),
        (("X_train", "Y_train", "X_val", "Y_val"), ("train", "validation")),
        (("train_images", "train_labels", "val_images", "val_labels"), ("train", "validation")),
        (("images", "labels"), ("",)),
        (("x", "y"), ("",)),
        (("data", "target"), ("",)),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_are_found_by_their_names(names: tuple[str, ...], parts: tuple[str, ...], save) -> None:  # type: ignore[no-untyped-def]
    save(NPZ, **{name: LABELS[:, None] if i % 2 else PIXELS for i, name in enumerate(names)})
    assert recognize(NPZ) == "npz"
    examples = read_examples(NPZ, DataSettings())
    assert np.array_equal(examples.items[:6], PIXELS)
    assert examples.labels[:6].tolist() == LABELS.tolist()
    assert tuple(dict.fromkeys(examples.parts)) == parts
    assert len(set(examples.keys)) == len(examples) == 6 * len(parts)


def test_npz_labels_may_be_texts_and_images_may_have_colour() -> None:
    np.savez(NPZ, images=np.stack([PIXELS] * 3, -1), labels=np.array(list("猫狗猫狗猫狗")))
    assert npz.read(NPZ).classes == ("狗", "猫")
    assert npz.read(NPZ).items.shape == (6, 4, 5, 3)  # type: ignore[union-attr]


NPZ_FAULTS = {
    "no-known-names": ({"a": PIXELS, "b": LABELS}, "`a.npz` holds `a`, `b`\n\nhint: expected `x_train` and `y_train`"),
    "nothing": ({}, "`a.npz` holds nothing\n\nhint: expected `x_train` and `y_train`"),
    "images-only": ({"images": PIXELS}, "`a.npz` holds `images`\n\nhint: expected `x_train` and `y_train`"),
    "test-without-labels": (
        {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS},
        "`a.npz`: `x_test` has 6 images, `y_test` does not fit",
    ),
    "fewer-labels": ({"x": PIXELS, "y": LABELS[:5]}, "`a.npz`: `x` has 6 images, `y` does not fit"),
    "one-hot": ({"x": PIXELS, "y": np.eye(6)}, "`a.npz`: `x` has 6 images, `y` does not fit"),
    "floats": ({"x": PIXELS / 255, "y": LABELS}, "`a.npz`: `x` is float64, expected uint8 pixels of 0 to 255"),
    "flat": ({"x": PIXELS.reshape(6, -1), "y": LABELS}, "`a.npz`: `x` has the shape (6, 20)\n\nhint: expected (images"),
    "channels-first": (
        {"x": np.zeros((6, 3, 4, 5), np.uint8), "y": LABELS},
        "`a.npz`: `x` has the shape (6, 3, 4, 5)\n\nhint: expected (images, height, width), or with 1 or 3 channels",
    ),
    "one-class": ({"x": PIXELS, "y": LABELS * 0}, "`a.npz` has one class only: `0`"),
    "other-sizes": (
        {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:, :3], "y_test": LABELS},
        "`a.npz` holds images of different sizes: [(3, 5), (4, 5)]",
    ),
}


@pytest.mark.parametrize("fault", NPZ_FAULTS)
def test_npz_that_does_not_fit_says_what_it_holds(fault: str) -> None:
    arrays, expected = NPZ_FAULTS[fault]
    np.savez(NPZ, **arrays)
    assert refusal(npz.read, NPZ).startswith(expected)


class Malicious:
    """Makes a marker file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch marker",)


@pytest.mark.parametrize("name", ["images", "labels", "other"])
def test_pickle_inside_npz_is_refused_and_never_run(name: str) -> None:
    arrays = {"images": PIXELS, "labels": LABELS, "other": LABELS, name: np.array([Malicious()] * 6, dtype=object)}
    np.savez(NPZ, **arrays)
    expected = "`a.npz` cannot be read: holds Python objects (pickle), which are never loaded"
    assert refusal(npz.read, NPZ) == expected
    assert not Path("marker").exists()


def test_pickle_named_npz_is_refused_and_never_run() -> None:
    import pickle

    NPZ.write_bytes(pickle.dumps(Malicious()))
    assert refusal(npz.read, NPZ).startswith("`a.npz` is not a .npz file (")
    assert not Path("marker").exists()


@pytest.mark.parametrize(
    "data", [b"", b"a text", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", bytes(999)]
)
def test_file_that_is_no_npz_says_so(data: bytes) -> None:
    NPZ.write_bytes(data)
    assert refusal(npz.read, NPZ) == f"`a.npz` is not a .npz file ({len(data)} bytes, not a zip archive)"


def test_npy_named_npz_says_that_it_is_none() -> None:
    with open(NPZ, "wb") as file:
        np.save(file, PIXELS)
    assert refusal(npz.read, NPZ) == f"`a.npz` is not a .npz file ({NPZ.stat().st_size} bytes, not a zip archive)"


def test_missing_npz_and_folder_in_its_place_are_data_errors() -> None:
    assert refusal(npz.read, NPZ).startswith("`a.npz` cannot be read: ")
    NPZ.mkdir()
    assert refusal(npz.read, NPZ).startswith("`a.npz` cannot be read: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_damage_of_an_npz_gives_wrong_pixels_or_a_traceback(save) -> None:  # type: ignore[no-untyped-def]
    save(NPZ, images=PIXELS, labels=LABELS)
    data = NPZ.read_bytes()
    for place in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        for content in (bytes(damaged), data[:place]):
            NPZ.write_bytes(content)
            try:
                examples = npz.read(NPZ)
            except DataError:
                continue
            assert np.array_equal(examples.items, PIXELS)
            assert examples.labels.tolist() == LABELS.tolist()


def test_entry_that_is_no_array_is_told() -> None:
    with zipfile.ZipFile(NPZ, "w") as archive:
        archive.writestr("images", b"raw")
    assert refusal(npz.read, NPZ) == "`a.npz`: `images` is not an array"


def test_array_that_claims_more_than_memory_is_a_data_error() -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904, 4, 5), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(NPZ, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    assert refusal(npz.read, NPZ).startswith("`a.npz` cannot be read: ")
