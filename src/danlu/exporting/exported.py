"""The module that is exported: pixels or token numbers in, scores and features out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danlu.base.errors import ModelError
from danlu.base.runs import Run
from danlu.inputs.images import ImageRecipe, normalize
from danlu.prediction.torch_engine import TorchEngine

EXAMPLE_LENGTH = 17


class Exported(nn.Module):
    """A trained model with its normalisation before it.

    Pixels enter as uint8, so that whoever serves the file cannot normalise them otherwise; the last layer's input comes
    out beside the scores, for those who watch the model.
    """

    def __init__(self, model: nn.Module, recipe: ImageRecipe | None) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise ModelError("the model has no linear layer, from whose input its features could be read")
        self._last = [layers[-1]]  # in a list, so that its weights are not named twice

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, height, width) uint8 or (B, length) int64 → (B, classes) scores and (B, features)."""
        seen: list[Tensor] = []
        hook = self._last[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        scores = self.model(inputs if self.recipe is None else normalize(inputs.float(), self.recipe))
        hook.remove()
        return scores, seen[0]

    @property
    def open_axes(self) -> dict[int, Any]:
        """The axes of the inputs that may have any length: of images the batch, of texts their length too."""
        return dict.fromkeys((0,) if self.recipe is not None else (0, 1), torch.export.Dim.DYNAMIC)

    def example(self) -> Tensor:
        """Inputs to trace with: two images, or two texts."""
        if self.recipe is not None:
            return torch.zeros(2, *self.recipe.shape, dtype=torch.uint8)
        return torch.ones(2, EXAMPLE_LENGTH, dtype=torch.int64)


class LoadedEngine:
    """A module that PyTorch has loaded from an exported file, as a function from inputs to probabilities."""

    def __init__(self, module: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self.module = module

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """(B, channels, height, width) uint8 or (B, length) int64 → (B, classes) float64 that add up to 1."""
        with torch.inference_mode():
            scores, _ = self.module(torch.from_numpy(inputs))
        answered: np.ndarray = scores.double().softmax(1).numpy()
        return answered


def forget_lstm_kernel() -> None:
    """Let PyTorch look its LSTM up anew.

    To export any text length it puts a loop in place of the LSTM's kernel, but does not clear the kernel it remembers
    from an export, or a compilation, before: that one unrolls the length it is traced with.
    """
    torch.ops.aten.lstm.input._dispatch_cache.clear()


def exported_of(run: Run) -> Exported:
    """The best weights of a run, ready to be exported."""
    engine = TorchEngine(run)
    return Exported(engine.model, engine.recipe).eval()
