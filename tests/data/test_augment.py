"""Augmentation: what each change does, and that it is a function of (seed, epoch, index) alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from danlu.data.augment import AT, COLUMNS, Augmentation, augment, draw, shrink
from danlu.data.batches import ImageBatches, draw_epoch
from danlu.data.prepare import Part
from danlu.inputs.images import ImageRecipe

RECIPE = ImageRecipe(12, 12, 3, mean=(0.0,) * 3, std=(1 / 255,) * 3)  # keeps 0–255
EVERYTHING = Augmentation(2, True, 15, 0.3, 0.3, 0.3, 0.5)


def pictures(count: int = 6) -> Tensor:
    return torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws(**values: float) -> Tensor:
    row = torch.full((1, len(COLUMNS)), 0.5)
    for name, value in values.items():
        row[0, COLUMNS.index(name)] = value
    return row


def changed(augmentation: Augmentation, **values: float) -> tuple[Tensor, Tensor]:
    before = pictures(1)
    return before.float(), augment(before, draws(**values), augmentation, RECIPE)


def test_flip_mirrors_left_and_right() -> None:
    before, after = changed(Augmentation(flip=True), flip=0.1)
    torch.testing.assert_close(after, before.flip(3))
    before, after = changed(Augmentation(flip=True), flip=0.9)
    torch.testing.assert_close(after, before)


def test_crop_shifts_and_fills_with_black() -> None:
    before, after = changed(Augmentation(crop=2), down=0.0, right=0.99)
    torch.testing.assert_close(after[:, :, 2:, :-2], before[:, :, :-2, 2:])
    assert (after[:, :, :2] == 0).all()
    assert (after[:, :, :, -2:] == 0).all()


def test_crop_reaches_every_shift_equally_often() -> None:
    single = torch.zeros(5000, 1, 9, 9, dtype=torch.uint8)
    single[:, :, 4, 4] = 255
    recipe = ImageRecipe(9, 9, 1)
    moved = augment(single, draw(5000, 0), Augmentation(crop=2), recipe)
    places = torch.nonzero(moved[:, 0] > 0)[:, 1:] - 4
    counts = torch.bincount((places[:, 0] + 2) * 5 + places[:, 1] + 2, minlength=25)
    assert counts.sum() == 5000
    assert counts.min() > 120


def test_rotation_turns_by_its_angle_and_keeps_the_middle() -> None:
    line = torch.zeros(1, 1, 41, 41, dtype=torch.uint8)
    line[:, :, 20, 20:] = 255
    recipe = ImageRecipe(41, 41, 1, mean=(0.0,), std=(1 / 255,))
    turned = augment(line, draws(angle=1.0), Augmentation(rotation=15), recipe)[0, 0]
    row = int(turned[:, 38].argmax())
    assert abs(row - 20) == pytest.approx(18 * math.tan(math.radians(15)), abs=1)
    assert turned[20, 20] > 100


def test_brightness_multiplies_and_stays_in_range() -> None:
    before, after = changed(Augmentation(brightness=0.5), brightness=0.0)
    torch.testing.assert_close(after, before * 0.5)
    _, after = changed(Augmentation(brightness=0.5), brightness=1.0)
    assert after.max() <= 255.001


def test_contrast_0_leaves_the_mean_grey() -> None:
    _, after = changed(Augmentation(contrast=1.0), contrast=0.0)
    assert after.std() < 1e-3


def test_saturation_0_leaves_grey() -> None:
    _, after = changed(Augmentation(saturation=1.0), saturation=0.0)
    torch.testing.assert_close(after[:, 0], after[:, 1])


def test_erasing_takes_a_rectangle_of_the_stated_size_from_the_stated_share() -> None:
    white = torch.full((2000, 3, 12, 12), 255, dtype=torch.uint8)
    after = augment(white, draw(2000, 1), Augmentation(erasing=0.25), RECIPE)
    lost = (after[:, 0] == 0).float().mean((1, 2))
    assert (lost > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert lost[lost > 0].max() <= 0.3


def test_an_image_is_changed_alike_alone_and_in_any_batch() -> None:
    all_ = pictures()
    numbers = draw(6, 3)
    together = augment(all_, numbers, EVERYTHING, RECIPE)
    for index in range(6):
        alone = augment(all_[index : index + 1], numbers[index : index + 1], EVERYTHING, RECIPE)
        torch.testing.assert_close(alone[0], together[index], rtol=1e-5, atol=1e-3)


def part(count: int = 20) -> Part:
    pixels = np.zeros((count, 3, 12, 12), dtype=np.uint8)
    pixels[:, 0, 6, 6] = np.arange(count) * 10 + 10
    return Part(pixels, np.arange(count) % 2, np.arange(count))


def by_image(batches: ImageBatches, epoch: int) -> dict[int, bytes]:
    """Each image's floats by the grey level that names it."""
    return {
        round(image.max().item()): image.numpy().tobytes() for images, _ in batches.epoch(epoch) for image in images
    }


def test_what_happens_to_an_image_does_not_depend_on_batch_size() -> None:
    changes = Augmentation(crop=2, flip=True)
    one, two = (ImageBatches(part(), RECIPE, batch_size=size, seed=1, augmentation=changes) for size in (3, 20))
    assert by_image(one, 4) == by_image(two, 4)
    assert by_image(one, 4) != by_image(one, 5)


def test_an_image_is_mirrored_in_every_other_epoch() -> None:

    mirrored = [draw_epoch(50, seed=3, epoch=epoch)[:, AT["flip"]] < 0.5 for epoch in range(4)]
    assert torch.equal(mirrored[0], ~mirrored[1])
    assert torch.equal(mirrored[0], mirrored[2])
    assert 10 < int(mirrored[0].sum()) < 40


def test_shrunk_images_keep_their_mean() -> None:
    images = torch.rand(3, 1, 28, 28)
    small = shrink(images, 20)
    assert small.shape == (3, 1, 20, 20)
    assert torch.allclose(small.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.01)
