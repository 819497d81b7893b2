"""Order, content and size of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from danlu.data.augment import Augmentation
from danlu.data.batches import (
    Batches,
    FixedBatches,
    ImageBatches,
    TextBatches,
    as_batches,
    draw_order,
    epoch_size,
    fingerprint,
    stream_seed,
)
from danlu.data.decode import PixelRows
from danlu.data.prepare import Part
from danlu.inputs.images import ImageRecipe, normalize

RECIPE = ImageRecipe(2, 2, 1, mean=(0.25,), std=(0.5,))


def images(count: int = 23) -> Part:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    return Part(pixels, np.arange(count), np.arange(count))


def texts(count: int = 130) -> Part:
    rng = np.random.default_rng(0)
    rows = [[2 + i % 5] * int(rng.integers(1, 30)) for i in range(count)]
    return Part(rows, np.arange(count), np.arange(count))


def labels_of(batches: object, epoch: int) -> list[int]:
    return [int(n) for _, labels in batches.epoch(epoch) for n in labels]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "batches",
    [ImageBatches(images(), RECIPE, batch_size=4, seed=7), TextBatches(texts(), batch_size=4, seed=7)],
    ids=["images", "texts"],
)
def test_every_example_comes_once_an_epoch_in_an_order_of_its_own(batches: ImageBatches | TextBatches) -> None:
    first, again, second = labels_of(batches, 0), labels_of(batches, 0), labels_of(batches, 1)
    assert sorted(first) == sorted(second) == list(range(len(batches.labels)))
    assert first == again
    assert first != second
    assert sum(1 for _ in batches.epoch(0)) == len(batches)


def test_another_seed_gives_another_order() -> None:
    orders = [labels_of(ImageBatches(images(), RECIPE, batch_size=4, seed=seed), 0) for seed in (1, 2)]
    assert orders[0] != orders[1]


def test_images_are_normalised_by_the_one_formula() -> None:
    part = images()
    for inputs, labels in ImageBatches(part, RECIPE, batch_size=5, seed=0).epoch(0):
        expected = normalize(np.asarray(part.inputs)[labels.numpy()].astype(np.float32), RECIPE)
        assert np.array_equal(inputs.numpy(), expected)


def test_chunks_do_not_change_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ImageBatches(images(), RECIPE, batch_size=4, seed=3)
    small = ImageBatches(images(), RECIPE, batch_size=4, seed=3)
    small.chunk = 8
    for (one, a), (two, b) in zip(whole.epoch(2), small.epoch(2), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(a, b)


def test_texts_of_similar_length_share_a_batch() -> None:
    batches = TextBatches(texts(), batch_size=10, seed=0)
    padding = sum((inputs == 0).sum().item() for inputs, _ in batches.epoch(0))
    tokens = sum(len(row) for row in texts().inputs)
    assert padding < 0.2 * tokens


def test_fixed_batches_give_their_order_and_never_change() -> None:
    batches = FixedBatches(texts(), None, batch_size=16)
    assert labels_of(batches, 0) == labels_of(batches, 1) == batches.order.tolist()


def test_iterable_of_pairs_is_a_source_of_batches() -> None:
    pairs = [(torch.zeros(2, 3), torch.tensor([0, 1]))]
    assert labels_of(as_batches(pairs), 0) == [0, 1]
    own = FixedBatches(images(), RECIPE)
    assert as_batches(own) is own


def test_stream_seeds_differ_by_seed_epoch_and_purpose() -> None:
    seeds = {stream_seed(s, e, p) for s in range(3) for e in range(3) for p in ("order", "augmentation")}
    assert len(seeds) == 18
    assert stream_seed(0, 0, "order") == stream_seed(0, 0, "order")


@pytest.mark.parametrize("changes", [None, Augmentation(crop=1, flip=True)], ids=["plain", "augmented"])
def test_pixels_on_disk_give_the_same_batches_as_pixels_in_memory(changes: Augmentation | None) -> None:
    part = images()
    shuffled = np.random.default_rng(0).permutation(len(part))
    on_disk = Part(PixelRows(np.asarray(part.inputs)[np.argsort(shuffled)], shuffled), part.labels, part.indices)
    pairs = [ImageBatches(p, RECIPE, batch_size=4, seed=5, augmentation=changes) for p in (part, on_disk)]
    for batches in pairs:
        batches.chunk = 4
    for (one, a), (two, b) in zip(pairs[0].epoch(1), pairs[1].epoch(1), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(a, b)
    for (one, _), (two, _) in zip(
        FixedBatches(part, RECIPE).epoch(0), FixedBatches(on_disk, RECIPE).epoch(0), strict=True
    ):
        assert torch.equal(one, two)


LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def test_shuffled_order_has_each_example_once() -> None:
    assert sorted(draw_order(LABELS, "shuffle", 1)) == list(range(100))


def test_balanced_draws_see_all_classes_equally_often() -> None:
    drawn = np.concatenate([draw_order(LABELS, "balanced", seed) for seed in range(60)])
    counts = np.bincount(LABELS[drawn])
    assert len(drawn) == 6000
    assert np.abs(counts / 2000 - 1).max() < 0.1


def test_undersampling_takes_others_every_epoch_and_never_one_twice() -> None:
    seen: set[int] = set()
    for seed in range(30):
        order = draw_order(LABELS, "undersample", seed)
        assert np.bincount(LABELS[order]).tolist() == [10, 10, 10]
        assert len(set(order.tolist())) == 30 == epoch_size(LABELS, "undersample")
        seen |= set(order.tolist())
    assert len(seen) > 95


@pytest.mark.parametrize("sampling", ["shuffle", "balanced", "undersample"])
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_an_epoch_can_start_at_any_batch(sampling: str, kind: str) -> None:
    if kind == "images":
        pixels = np.arange(100 * 4, dtype=np.uint8).reshape(100, 1, 2, 2)
        part = Part(pixels, LABELS, np.arange(100))
        changes = Augmentation(flip=True, crop=1)
        batches: Batches = ImageBatches(
            part, ImageRecipe(2, 2, 1), batch_size=7, seed=3, sampling=sampling, augmentation=changes
        )
        batches.chunk = 14  # type: ignore[attr-defined]
    else:
        rows = [[1 + i % 9] * (1 + i % 5) for i in range(100)]
        batches = TextBatches(Part(rows, LABELS, np.arange(100)), batch_size=7, seed=3, sampling=sampling)
    whole = list(batches.epoch(2))
    assert len(whole) == len(batches)
    for start in range(len(whole) + 1):
        rest = list(batches.epoch(2, start))
        assert len(rest) == len(whole) - start
        for one, two in zip(whole[start:], rest, strict=True):
            assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_equal_batches_have_equal_fingerprints_and_others_do_not() -> None:
    batch = ({"a": torch.arange(6.0).reshape(2, 3)}, torch.tensor([0, 1]))
    same = ({"a": torch.arange(6.0).reshape(2, 3)}, torch.tensor([0, 1]))
    assert fingerprint(batch) == fingerprint(same)
    for other in (
        ({"a": torch.arange(6.0).reshape(3, 2)}, torch.tensor([0, 1])),
        ({"a": torch.arange(6.0).double().reshape(2, 3)}, torch.tensor([0, 1])),
        ({"a": torch.arange(6.0).reshape(2, 3)}, torch.tensor([1, 0])),
    ):
        assert fingerprint(other) != fingerprint(batch)
