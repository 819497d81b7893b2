"""Tiny invented data: pictures whose class can be seen, and texts whose class can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"红": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220)}


def write_pictures(root: Path, count: int = 12, size: int = 16, seed: int = 0) -> Path:
    """`root/红`, `root/green`, `root/blue` with `count` noisy JPEGs each."""
    rng = np.random.default_rng(seed)
    for name, color in COLORS.items():
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(count):
            noise = rng.integers(-30, 30, size=(size, size, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03d}.jpg", quality=95)
    return root


def write_reviews(path: Path, count: int = 60) -> Path:
    """A table of Chinese reviews, good (1) and bad (0)."""
    rng = np.random.default_rng(1)
    good, bad = ["很好吃", "非常快", "味道足", "满意"], ["太慢", "难吃", "凉了", "失望"]
    lines = ["label,review"]
    for index in range(count):
        words = good if index % 2 else bad
        lines.append(f"{index % 2},{'，'.join(rng.permutation(words)[:3])}{index}号")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
