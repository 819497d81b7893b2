"""What the defaults reach on real data that comes along; minutes in all, so `make test-all` runs them."""

from __future__ import annotations

import pytest

import danlu

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 1])
def test_defaults_reach_97_percent_on_unseen_digits(seed: int) -> None:
    run = danlu.train("digits", {"training.seed": seed, "data.split_seed": seed})
    assert danlu.evaluate(run).accuracy >= 0.97


@pytest.mark.parametrize("name", ["mlp", "simple_cnn", "digit_cnn", "fast_cnn", "vgg_cnn"])
def test_every_image_model_learns_digits_with_its_own_recipe(name: str) -> None:
    run = danlu.train("digits", {"model.name": name})
    assert danlu.evaluate(run).accuracy >= 0.96
