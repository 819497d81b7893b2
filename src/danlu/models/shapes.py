"""What one example looks like to a model, and the base of every model's options."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from danlu.base.errors import ConfigError


class ImageShape(NamedTuple):
    """(channels, height, width) of float32 images."""

    channels: int
    height: int
    width: int

    def require(self, side: int, model: str) -> None:
        """Raise `ConfigError` when an image is smaller than `side` pixels either way."""
        if min(self.height, self.width) < side:
            raise ConfigError(
                f"{model} needs images of at least {side} × {side} pixels, these have {self.height} × {self.width}",
                hint=f"set `data.image_size={side}` or use `model.name=mlp`",
            )


class TextShape(NamedTuple):
    """(length,) int64 token numbers below `vocabulary_size`, 0 for padding at the end."""

    vocabulary_size: int
    max_length: int


ExampleShape = ImageShape | TextShape


class ModelOptions(BaseModel):
    """Options of one architecture; an unknown one is an error that names the nearest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
