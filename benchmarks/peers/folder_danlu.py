"""danlu's way from a folder to batches: list, decode, hash, split, cache, then slices of resident tensors."""

from __future__ import annotations

import time

import contract
import numpy as np
import torch

from danlu.base.config import read_config
from danlu.data.augment import Augmentation
from danlu.data.batches import ImageBatches
from danlu.data.prepare import Part, prepare


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--crop", type=int, required=True)
    arguments = parser.parse_args()
    settings = read_config().settings
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    seconds = []
    started = time.perf_counter()
    prepared = prepare(arguments.data, settings.data)
    parts = prepared.parts.values()
    # All parts together, so that an epoch has as many images as the other loader's.
    whole = Part(
        np.concatenate([np.asarray(part.inputs) for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.indices for part in parts]),
    )
    augmentation = Augmentation(crop=arguments.crop, flip=True)
    batches = ImageBatches(
        whole, prepared.recipe, batch_size=contract.BATCH_SIZE, seed=0, augmentation=augmentation, device="cpu"
    )
    for epoch in range(arguments.epochs):
        seen = 0
        for images, _ in batches.epoch(epoch):
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
