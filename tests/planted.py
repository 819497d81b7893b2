"""A folder of real handwritten digits with faults planted in it, and the keys of each fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

COPIES, NEAR, FLIPPED, TRUNCATED = 10, 10, 20, 5
RENAMED = ("seven", "seven (1)")
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


def plant_faults(root: Path, *, seed: int = 0) -> Planted:
    """Copy, save again, flip, truncate and rename, each in files of its own."""
    rng = np.random.default_rng(seed)
    planted = Planted(root)

    def key(path: Path) -> str:
        return path.relative_to(root).as_posix()

    train = sorted((root / "train").rglob("*.png"))
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
        others = [name for name in NAMES if name not in (path.parent.name, RENAMED[0])]
        moved = root / "train" / others[int(rng.integers(len(others)))] / f"moved-{path.name}"
        path.rename(moved)
        planted.flipped.append(key(moved))
    for _ in range(TRUNCATED):
        path = next(chosen)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        planted.truncated.append(key(path))
    (root / "test" / RENAMED[0]).rename(root / "test" / RENAMED[1])
    planted.copies = [(a, b.replace(f"/{RENAMED[0]}/", f"/{RENAMED[1]}/")) for a, b in planted.copies]
    planted.near = [(a, b.replace(f"/{RENAMED[0]}/", f"/{RENAMED[1]}/")) for a, b in planted.near]
    return planted
