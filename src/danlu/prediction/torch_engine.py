"""Probabilities through PyTorch. The only file of this room that imports it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from danlu.base.errors import ModelError
from danlu.base.runs import Run
from danlu.inputs.images import ImageRecipe, normalize


class TorchEngine:
    """`model.json` and the best checkpoint of a run as a function from inputs to probabilities."""

    def __init__(self, run: Run) -> None:
        from danlu.models.build import build_model
        from danlu.models.shapes import ImageShape, TextShape
        from danlu.training.checkpoints import load_checkpoint

        description = run.model()
        shape_type = ImageShape if description["kind"] == "images" else TextShape
        shape = shape_type(*description["example_shape"])
        self.model = build_model(description["name"], shape, len(description["classes"]), description["options"])
        weights = load_checkpoint(run.checkpoints_folder, "best").tensors
        _load_weights(self.model, weights, run)
        self.model.eval()
        is_image = description["kind"] == "images"
        self.recipe = ImageRecipe.from_json(description["preprocessing"]) if is_image else None

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """(B, channels, height, width) uint8 or (B, length) int64 → (B, classes) float64 that add up to 1."""
        with torch.inference_mode():
            rows = torch.from_numpy(inputs)
            scores = self.model(rows if self.recipe is None else normalize(rows.float(), self.recipe))
        answered: np.ndarray = scores.double().softmax(1).numpy()
        return answered


def _load_weights(model: Any, weights: dict[str, torch.Tensor], run: Run) -> None:
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    saved = {name: tuple(value.shape) for name, value in weights.items()}
    if own != saved:
        wrong = sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name))
        raise ModelError(
            f"the weights of `{run}` do not fit its architecture: {', '.join(wrong[:5])}",
            hint="`model.json` or the checkpoint was changed by hand",
        )
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ModelError(f"the weights of `{run}` hold NaN or infinity: {', '.join(broken[:5])}")
    model.load_state_dict(weights)
