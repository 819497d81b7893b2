"""The same examples, changed in the same way, on a GPU as on a processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import danlu
from danlu.data.augment import Augmentation
from danlu.data.batches import ImageBatches
from danlu.data.prepare import Part
from danlu.inputs.images import ImageRecipe
from pictures import write_pictures

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def test_batches_are_the_same_on_processor_and_gpu() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    part = Part(pixels, np.arange(40) % 3, np.arange(40))
    recipe = ImageRecipe(16, 16, 3, mean=(0.5,) * 3, std=(0.2,) * 3)
    changes = Augmentation(2, True, 10, 0.2, 0.2, 0.2, 0.3)
    here, there = (
        ImageBatches(part, recipe, batch_size=16, seed=4, augmentation=changes, device=device)
        for device in ("cpu", "cuda")
    )
    for (images, labels), (gpu_images, gpu_labels) in zip(here.epoch(3), there.epoch(3), strict=True):
        assert torch.equal(labels, gpu_labels.cpu())
        torch.testing.assert_close(images, gpu_images.cpu(), rtol=1e-4, atol=1e-3)


def test_training_on_a_gpu_makes_a_run_that_answers_on_the_processor(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "p")
    run = danlu.train(data, {"training.epochs": 6, "training.device": "cuda", "training.ema": 0.9})
    assert danlu.evaluate(run).accuracy > 0.5
