"""A folder of real handwritten digits with faults planted in it, and the keys of each fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

COPIES, NEAR, FLIPPED, TRUNCATED = 10, 10, 20, 5
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass
class Planted:
    """Where the faults are: pairs of keys for copies, keys for the others."""

    root: Path
    copies: list[tuple[str, str]] = field(default_factory=list)
    near: list[tuple[str, str]] = field(default_factory=list)
    flipped: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)


def write_digits(root: Path) -> None:
    """`train/` and `test/` with the 1,797 digits of scikit-learn as 16 × 16 PNG files, every fourth in test."""
    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = root / ("test" if index % 4 == 0 else "train") / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((16, 16), Image.Resampling.BICUBIC)
        image.save(folder / f"{index:04d}.png")


def plant_faults(root: Path, renamed: tuple[str, str], *, seed: int = 0) -> Planted:
    """Copy, save again, flip and truncate, each in files of its own, and rename a class in test.

    `root` has `train/` and `test/` with the same classes; `renamed`: the name of one and its new name.
    """
    rng = np.random.default_rng(seed)
    planted = Planted(root)

    def key(path: Path) -> str:
        parts = path.relative_to(root).parts
        return "/".join([parts[0], renamed[1] if parts[:2] == ("test", renamed[0]) else parts[1], *parts[2:]])

    train = sorted(path for path in (root / "train").rglob("*") if path.is_file())
    names = sorted({path.parent.name for path in train} - {renamed[0]})
    chosen = iter([train[i] for i in rng.permutation(len(train))])
    for _ in range(COPIES):
        path = next(chosen)
        other = root / "test" / path.parent.name / f"again-{path.name}"
        other.write_bytes(path.read_bytes())
        planted.copies.append((key(path), key(other)))
    for _ in range(NEAR):
        path = next(chosen)
        other = root / "test" / path.parent.name / f"saved-{path.stem}.jpg"
        Image.open(path).save(other, quality=90)
        planted.near.append((key(path), key(other)))
    for _ in range(FLIPPED):
        path = next(chosen)
        others = [name for name in names if name != path.parent.name]
        moved = root / "train" / others[int(rng.integers(len(others)))] / f"moved-{path.name}"
        path.rename(moved)
        planted.flipped.append(key(moved))
    for _ in range(TRUNCATED):
        path = next(chosen)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        planted.truncated.append(key(path))
    (root / "test" / renamed[0]).rename(root / "test" / renamed[1])
    return planted
