"""The tutorial's way from a folder to batches: a Dataset that opens, changes and converts one file at a time."""

from __future__ import annotations

import random
import time
from pathlib import Path

import contract
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

MEAN = np.array([0.5, 0.5, 0.5], dtype=np.float32)
STD = np.array([0.5, 0.5, 0.5], dtype=np.float32)
SUFFIXES = (".jpg", ".jpeg", ".png")


class Photos(Dataset):
    def __init__(self, folder: Path, crop: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        classes = sorted({path.parent.name for path in self.paths})
        self.labels = [classes.index(path.parent.name) for path in self.paths]
        self.crop = crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = np.asarray(Image.open(self.paths[index]).convert("RGB"))
        height, width = pixels.shape[:2]
        padded = np.pad(pixels, ((self.crop, self.crop), (self.crop, self.crop), (0, 0)))
        top, left = random.randint(0, 2 * self.crop), random.randint(0, 2 * self.crop)
        pixels = padded[top : top + height, left : left + width]
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        image = (pixels.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), self.labels[index]


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--crop", type=int, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--persistent", action="store_true", help="keep the workers between epochs")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    seconds = []
    started = time.perf_counter()
    loader = DataLoader(
        Photos(Path(arguments.data), arguments.crop),
        batch_size=contract.BATCH_SIZE,
        shuffle=True,
        num_workers=arguments.workers,
        persistent_workers=arguments.persistent,
    )
    for _ in range(arguments.epochs):
        seen = 0
        for images, _labels in loader:
            seen += len(images)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    contract.give_back(
        arguments,
        ("torch", "numpy", "pillow"),
        seconds=seconds,
        images=seen,
        shape=[str(images.dtype), *images.shape[1:]],
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
