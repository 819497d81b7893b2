"""The settings left at `auto`, chosen from the data, each with the reason that is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from danlu.base.config import Config
from danlu.base.errors import ConfigError
from danlu.base.settings import TrainingSettings
from danlu.data.prepare import PreparedData
from danlu.inputs.images import ImageRecipe
from danlu.models import MODELS
from danlu.models.build import build_model
from danlu.models.shapes import ImageShape
from danlu.training import LOSSES, OPTIMIZERS, SCHEDULES

Choices = dict[str, tuple[Any, str]]
MANY_EXAMPLES = 20_000
EARLY_SHARE = 0.71
FEWEST_STEPS, MOST_EPOCHS = 300, 100


@dataclass(frozen=True)
class Recipe:
    """What trains an architecture well: `visits` examples seen in all, within `epochs_between`.

    `starts_small`: any image size fits, and smaller ones in the first third save time.
    Images are shifted in trainings of at least `shifts_from` epochs, and mirrored from `flips_from`: an image seen a
    few times is not learnt by heart. `options` of the architecture apply where danlu chose it; an architecture named
    by the user is left as it is.
    """

    visits: int
    epochs_between: tuple[int, int]
    batch_size: int
    learning_rate: float
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    schedule: str = "one_cycle"
    warmup: float = 0.1
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    shifts_from: int = 8
    flips_from: int = 8
    starts_small: bool = False
    options: tuple[tuple[str, float], ...] = ()


RECIPES = {
    "mlp": Recipe(300_000, (5, 40), 64, 2e-3, label_smoothing=0.1),
    "simple_cnn": Recipe(200_000, (5, 50), 64, 2e-3),
    "digit_cnn": Recipe(250_000, (4, 40), 64, 2e-3),
    "vgg_cnn": Recipe(
        90_000, (5, 20), 64, 2e-3, weight_decay=0.05, options=(("feature_dropout", 0.1), ("dropout", 0.3))
    ),
    "fast_cnn": Recipe(
        540_000,
        (9, 30),
        512,
        0.07,
        optimizer="muon",
        weight_decay=5e-4,
        schedule="warmup_linear",
        warmup=0.15,
        label_smoothing=0.1,
        shifts_from=16,
        flips_from=1,
        starts_small=True,
    ),
    "ngrams": Recipe(50_000, (3, 6), 64, 3e-3, warmup=0.25, label_smoothing=0.1),
    "textcnn": Recipe(50_000, (3, 6), 64, 1e-3, warmup=0.25, label_smoothing=0.1, clip_norm=1.0),
    "bilstm": Recipe(42_000, (3, 6), 64, 2e-3, warmup=0.25, label_smoothing=0.1, clip_norm=1.0),
}


def check_names(config: Config) -> None:
    """All names that no registry knows, before any data is read."""
    training = config.settings.training
    asked = (
        ("model.name", MODELS, config.settings.model.name),
        ("training.optimizer", OPTIMIZERS, training.optimizer),
        ("training.schedule", SCHEDULES, training.schedule),
        ("training.loss", LOSSES, training.loss),
    )
    problems = [(key, table.unknown(name)) for key, table, name in asked if name != "auto" and name not in table]
    if problems:
        raise ConfigError.of_problems("the settings", problems, hint="`danlu list models` shows all; so for the others")


def choose_model(config: Config, data: PreparedData) -> Choices:
    """The architecture for this kind, size and number of examples, unless one is named."""
    model = config.settings.model
    if model.name != "auto":
        return {}
    name, reason = _model_for(data)
    given = model.model_extra or {}
    return {"model.name": (name, reason)} | {
        f"model.{option}": (value, f"lighter than {name}'s own, for a training this short")
        for option, value in RECIPES[name].options
        if option not in given
    }


def _model_for(data: PreparedData) -> tuple[str, str]:
    count = len(data.parts["train"])
    recipe = data.recipe
    if not isinstance(recipe, ImageRecipe):
        return "ngrams", f"{count:,} train texts; n-grams are strong and take seconds"
    side = min(recipe.height, recipe.width)
    if side < 8:
        return "mlp", f"images of {side} pixels are too small to convolve"
    if count >= MANY_EXAMPLES and recipe.channels == 1:
        return "fast_cnn", f"{count:,} grey train images; the most accuracy a second, minutes on a processor"
    return "vgg_cnn", f"{count:,} train images of {side} pixels; the most accurate small network here"


def choose_training(config: Config, data: PreparedData) -> Choices:
    """Length, step size and regularisation for the named model; call after `choose_model`."""
    training = config.settings.training
    wanted = usual_training(config.settings.model.name, len(data.parts["train"]), training)
    return {key: value for key, value in wanted.items() if getattr(training, key.partition(".")[2]) == "auto"}


def usual_training(name: str, count: int, training: TrainingSettings) -> Choices:
    """What trains an architecture well on `count` examples, with the batch size and the optimizer as they are set."""
    recipe = RECIPES[name]
    low, high = recipe.epochs_between
    epochs = max(low, min(high, round(recipe.visits / count)))
    batch_size = recipe.batch_size if training.batch_size == "auto" else int(training.batch_size)
    length = f"about {recipe.visits:,} examples seen, {low} to {high} epochs"
    for_steps = min(MOST_EPOCHS, -(-FEWEST_STEPS // -(-count // batch_size)))
    if for_steps > epochs:
        epochs, length = for_steps, f"{FEWEST_STEPS} steps, at most {MOST_EPOCHS} epochs: few examples"
    why = f"tuned for {name}"
    rate, decay = (recipe.learning_rate, why), (recipe.weight_decay, why)
    if training.optimizer not in ("auto", recipe.optimizer):
        usual = f"usual for {training.optimizer}"
        rates = {"sgd": 0.05, "muon": 0.02, "rmsprop": 5e-4}
        rate = (rates.get(training.optimizer, recipe.learning_rate), usual)
        decay = ({"sgd": 5e-4, "adam": 0.0, "rmsprop": 0.0}.get(training.optimizer, recipe.weight_decay), usual)
    return {
        "training.epochs": (epochs, length),
        "training.batch_size": (recipe.batch_size, why),
        "training.learning_rate": rate,
        "training.optimizer": (recipe.optimizer, why),
        "training.weight_decay": decay,
        "training.schedule": (recipe.schedule, why),
        "training.warmup": (recipe.warmup, why),
        "training.label_smoothing": (recipe.label_smoothing, why),
        "training.clip_norm": (recipe.clip_norm, why),
    }


def choose_augmentation(config: Config, data: PreparedData) -> Choices:
    """Shifts, and mirroring where a mirrored image keeps its meaning, when images are seen often; call last."""
    settings = config.settings.augmentation
    if not isinstance(data.recipe, ImageRecipe):
        return {}
    if config.settings.model.name == "mlp":
        reason = "off for mlp, which reads pixels by their place"
        wanted: Choices = {"augmentation.crop": (0, reason), "augmentation.flip": (False, reason)}
    else:
        epochs, recipe = int(config.settings.training.epochs), RECIPES[config.settings.model.name]
        side = min(data.recipe.height, data.recipe.width)
        margin = max(1, side // 8 if data.recipe.channels == 3 else side // 14)
        few = f"off: an image seen {epochs} times is not yet learnt by heart"
        is_long = epochs >= recipe.shifts_from
        wanted = {
            "augmentation.crop": (margin, f"shifts of up to {margin} of {side} pixels") if is_long else (0, few),
            "augmentation.flip": _flip(data) if epochs >= recipe.flips_from else (False, few),
        }
    wanted |= _start_small(config, data)
    return {key: value for key, value in wanted.items() if getattr(settings, key.partition(".")[2]) == "auto"}


def _start_small(config: Config, data: PreparedData) -> Choices:
    """Smaller images in the first third of a training, where the architecture reads any size."""
    recipe = RECIPES[config.settings.model.name]
    third = int(config.settings.training.epochs) // 3
    if not recipe.starts_small or not third or not isinstance(data.recipe, ImageRecipe):
        off = (0, f"off for {config.settings.model.name}, or so few epochs")
        return {"augmentation.early_size": off, "augmentation.early_epochs": off}
    side = min(data.recipe.height, data.recipe.width)
    asked = config.settings.augmentation.early_size
    size = round(EARLY_SHARE * side)
    if asked == "auto" and not _reads(config, ImageShape(data.recipe.channels, size, size)):
        off = (0, f"off: {config.settings.model.name} cannot read {size} of {side} pixels")
        return {"augmentation.early_size": off, "augmentation.early_epochs": off}
    return {
        "augmentation.early_size": (size, f"{size} of {side} pixels take half the time"),
        "augmentation.early_epochs": (third, f"a third of {config.settings.training.epochs}"),
    }


def _reads(config: Config, shape: ImageShape) -> bool:
    """Whether the architecture can be built for images of this shape."""
    model = config.settings.model
    try:
        with torch.device("meta"):
            build_model(model.name, shape, num_classes=2, options=model.model_extra)
    except ConfigError:
        return False
    return True


def _flip(data: PreparedData) -> tuple[bool, str]:
    stated = data.examples.facts.get("flip")
    if isinstance(stated, bool):
        return (stated, "known of this data set")
    if isinstance(data.recipe, ImageRecipe) and data.recipe.channels == 1:
        return (False, "grey images are often signs, which change when mirrored")
    return (True, "colour photos keep their meaning when mirrored")
