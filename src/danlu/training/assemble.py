"""From settings without `auto` and prepared examples to what trains: device, model, batches, trainer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from danlu.base.config import Config
from danlu.base.errors import ConfigError, MachineError
from danlu.data.augment import Augmentation
from danlu.data.batches import Batches, FixedBatches, ImageBatches, TextBatches
from danlu.data.prepare import PreparedData
from danlu.inputs.images import ImageRecipe
from danlu.models.build import build_model
from danlu.models.shapes import ExampleShape, ImageShape
from danlu.training.choose_way import Choices, Model, choose_by_measuring
from danlu.training.losses import Loss, balanced_weights, build_loss
from danlu.training.start import example_shape
from danlu.training.trainer import Trainer


def choose_device(wanted: str) -> torch.device:
    """The device to train on; a named one that is not there is an error, not a fall-back.

    Of several processes on a machine with GPUs, each takes the one of its number.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wanted]:
        raise MachineError(f"`training.device={wanted}`: there is none here", hint="`danlu check` shows what there is")
    if wanted == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    return torch.device(wanted)


def first_model(config: Config, prepared: PreparedData, options: Mapping[str, Any]) -> nn.Module:
    """The named architecture for these examples with its first weights, on the processor."""
    settings = config.settings.model
    shape, seed = example_shape(prepared), config.settings.training.seed
    model = build_model(
        settings.name, shape, len(prepared.classes), options, initialization=settings.initialization, seed=seed
    )
    _require_early_size(config, model, shape)
    return model


def build_batches(config: Config, prepared: PreparedData, device: torch.device) -> tuple[Batches, Batches]:
    """(train, validation) over resident examples."""
    training, augmentation = config.settings.training, config.settings.augmentation
    part, recipe = prepared.parts["train"], prepared.recipe
    batch_size = int(training.batch_size)
    if isinstance(recipe, ImageRecipe):
        images = ImageBatches(
            part,
            recipe,
            batch_size=batch_size,
            seed=training.seed,
            sampling=training.sampling,
            augmentation=Augmentation(**augmentation.model_dump()),
            device=device,
        )
        images.reader_threads = config.settings.data.reader_threads
        return images, FixedBatches(prepared.parts["validation"], recipe, device=device)
    texts = TextBatches(part, batch_size=batch_size, seed=training.seed, sampling=training.sampling, device=device)
    return texts, FixedBatches(prepared.parts["validation"], None, device=device)


def build_trainer(
    config: Config, prepared: PreparedData, model: nn.Module, batches: tuple[Batches, Batches]
) -> Trainer:
    """The loop over these batches; the model is on the device it trains on."""
    device = next(model.parameters()).device
    loss = loss_for(config, prepared, device)
    return Trainer(model, *batches, loss, settings=config.settings.training, device=device)


def loss_for(config: Config, prepared: PreparedData, device: torch.device) -> Loss:
    """The loss of the settings, with the weights of classes where they are wished."""
    class_weights = None
    if config.settings.training.class_weights == "balanced":
        labels = torch.from_numpy(prepared.parts["train"].labels)
        class_weights = balanced_weights(labels, len(prepared.classes)).to(device)
    return build_loss(config.settings.training, class_weights)


def measured_choices(
    config: Config, description: Mapping[str, Any], model: nn.Module, batches: Batches, processes: int
) -> Choices:
    """What is chosen by measuring on this machine; `description`: `model.json`; `processes`: how many share it."""
    training = config.settings.training
    steps = -(-len(batches) // training.accumulation_steps) * int(training.epochs)
    return choose_by_measuring(config, model, Model(description, next(iter(batches.epoch(0))), processes), steps)


def use_threads(config: Config, device: torch.device) -> None:
    """Let PyTorch use as many processor threads as the settings say."""
    if device.type == "cpu":
        torch.set_num_threads(int(config.settings.training.threads))


def _require_early_size(config: Config, model: nn.Module, shape: ExampleShape) -> None:
    """The architecture has to read images of `augmentation.early_size` too."""
    size = config.settings.augmentation.early_size
    if not size or size == "auto" or not isinstance(shape, ImageShape):
        return
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, shape.channels, int(size), int(size)))
    except RuntimeError as error:
        name = config.settings.model.name
        raise ConfigError(
            f"`augmentation.early_size={size}`: {name} built for {shape.height} pixels cannot read images of {size}",
            hint="set it to 0, or nearer to the size of the images; `model.name=fast_cnn` reads any from 8 on",
        ) from error
