"""The architecture and the recipe that danlu picks, seen on data of every size and kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from danlu.base.config import read_config
from danlu.models import MODELS
from danlu.training.choose import MANY_EXAMPLES, RECIPES
from danlu.training.start import start_run

MANY = MANY_EXAMPLES + 200


def test_every_architecture_has_a_recipe() -> None:
    assert set(MODELS.names()) == set(RECIPES)


@pytest.mark.parametrize(
    ("count", "shape", "expected"),
    [
        (100, (8, 8), "vgg_cnn"),
        (MANY, (8, 8), "fast_cnn"),
        (MANY, (8, 8, 3), "vgg_cnn"),
        (100, (4, 4), "mlp"),
        (MANY, (4, 4), "mlp"),
    ],
)
def test_architecture_follows_number_size_and_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, shape: tuple[int, ...], expected: str
) -> None:
    monkeypatch.setenv("DANLU_RUNS", str(tmp_path / "runs"))
    numbers = np.random.default_rng(0)
    pixels = numbers.integers(0, 256, (count, *shape), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=pixels, labels=np.arange(count) % 4)
    start = start_run(tmp_path / "noise.npz", read_config(words=["data.split=[0.99,0.005,0.005]"]), None)
    assert start.model["name"] == expected
    assert start.run.state() == "prepared"  # this process, which prepared it, is alive
    values = {key: (value, origin) for key, value, origin in start.config.rows()}
    name, origin = values["model.name"]
    assert name == expected and origin.startswith("auto: ") and len(origin) > 20
    later = {"training.threads", "training.channels_last", "training.precision", "training.compile", "training.device"}
    left = {key for key, (value, _) in values.items() if value == "auto"}
    assert {key for key in left if key.startswith(("model.", "training.", "augmentation."))} <= later


@pytest.mark.parametrize(("side", "early"), [(8, 0), (10, 0), (11, 8), (28, 20)])
def test_early_images_are_never_smaller_than_the_architecture_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, early: int
) -> None:
    monkeypatch.setenv("DANLU_RUNS", str(tmp_path / "runs"))
    pixels = np.random.default_rng(0).integers(0, 256, (100, side, side), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=pixels, labels=np.arange(100) % 4)
    start = start_run(tmp_path / "noise.npz", read_config(words=["model.name=fast_cnn"]), None)
    found = start.config.settings.augmentation
    assert found.early_size == early
    assert bool(found.early_epochs) == bool(early)


def test_early_size_that_is_named_is_used_where_danlu_would_not_start_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DANLU_RUNS", str(tmp_path / "runs"))
    pixels = np.random.default_rng(0).integers(0, 256, (100, 10, 10), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=pixels, labels=np.arange(100) % 4)
    words = ["model.name=fast_cnn", "augmentation.early_size=8"]
    found = start_run(tmp_path / "noise.npz", read_config(words=words), None).config.settings.augmentation
    assert found.early_size == 8 and found.early_epochs != 0
