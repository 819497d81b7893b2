"""Trainings at a part of the full budget, each from scratch with a schedule of its own length.

The last epochs of a schedule, where the rate falls, are where a validation score is made: a long schedule that is cut
off says little about its end, a short schedule run to its end says much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from danlu.base import log
from danlu.base.config import Config, read_config
from danlu.data.batches import stream_seed
from danlu.data.decode import PixelRows
from danlu.data.prepare import Part, PreparedData
from danlu.training.assemble import build_batches, build_trainer, choose_device, first_model, use_threads
from danlu.training.keeper import Hooks
from danlu.training.recorder import EpochRow
from danlu.training.start import describe_model, resolve


@dataclass(frozen=True)
class Rung:
    """A stop of a trial: `share` of the full budget, and the same in units of the lowest rung."""

    share: float
    step: int


@dataclass(frozen=True)
class Fidelity:
    """How long a training is: `epochs` over `data_share` of the train part."""

    epochs: int
    data_share: float

    def of(self, full_epochs: int) -> float:
        """As a share of the full budget."""
        return self.epochs * self.data_share / full_epochs


@dataclass(frozen=True)
class Score:
    """What a training reached on the validation part, at its best epoch."""

    loss: float
    accuracy: float
    epoch: int
    epochs: int
    data_share: float
    fidelity: float
    seconds: float

    def value(self, by: str) -> float:
        return self.loss if by == "validation_loss" else self.accuracy


def rungs(lowest: float, factor: int) -> tuple[Rung, ...]:
    """From `lowest`, or a little above, to the full budget, each `factor` times the one before.

    >>> [round(rung.share, 3) for rung in rungs(0.1, 3)]
    [0.111, 0.333, 1.0]
    """
    count = max(0, math.floor(math.log(1 / lowest, factor) + 1e-9))
    return tuple(Rung(float(factor) ** (place - count), factor**place) for place in range(count + 1))


def fidelity_of(share: float, full_epochs: int) -> Fidelity:
    """Fewer epochs; less than one epoch is one over fewer examples.

    >>> fidelity_of(1 / 9, 20), fidelity_of(1 / 9, 6)
    (Fidelity(epochs=2, data_share=1.0), Fidelity(epochs=1, data_share=0.6666666666666666))
    """
    epochs = max(1, round(share * full_epochs))
    return Fidelity(epochs, min(1.0, share * full_epochs) if epochs == 1 else 1.0)


class Trainings:
    """Trainings of many settings on data that was read once; what is measured of the machine is measured before.

    `base`: the settings as the user gave them, with every `auto` still open: each trial is what `danlu train` would do
    with the trial's values on top. `measured`: values by key that hold for all.
    """

    def __init__(self, base: Config, prepared: PreparedData, measured: Mapping[str, Any]) -> None:
        self.base = base
        self.prepared = prepared
        self.measured = dict(measured)
        self.device = choose_device(base.settings.training.device)
        self.parts: dict[float, Part] = {}

    def config_for(self, values: Mapping[str, Any]) -> Config:
        """Full-length settings with a trial's values; raises `ConfigError` for values that do not go together."""
        asked = {key: value for key, value, origin in self.base.rows() if origin != "default"}
        return resolve(read_config(settings={**asked, **self.measured, **values}), self.prepared)

    def shortened(self, config: Config, share: float) -> tuple[Config, Fidelity]:
        """The settings of a rung; what was chosen by the full length stays, what counts epochs shrinks with them."""
        full = int(config.settings.training.epochs)
        fidelity = fidelity_of(share, full)
        if fidelity.epochs == full:
            return config, fidelity
        early = config.settings.augmentation.early_epochs
        early = 0 if early == "auto" else early  # texts have none
        return config.with_chosen(
            {
                "training.epochs": (fidelity.epochs, f"{share:.3g} of {full}"),
                "augmentation.early_epochs": (round(early * fidelity.epochs / full), f"of {early}"),
            }
        ), fidelity

    def words_for(self, values: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        """The settings by which `danlu train` does what a trial did in so many epochs: the trial's own, the length
        where it is another, and what would be chosen otherwise for that length."""
        full = self.config_for(values)
        if epochs == int(full.settings.training.epochs):
            return dict(values)
        short, _ = self.shortened(full, epochs / int(full.settings.training.epochs))
        words = {**values, "training.epochs": epochs}
        chosen = {key: value for key, value, _ in self.config_for(words).rows()}
        wanted = {key: value for key, value, _ in short.rows()}
        return words | {key: value for key, value in wanted.items() if chosen.get(key) != value}

    def train(self, config: Config, share: float, on_epoch: Callable[[EpochRow], None] = lambda row: None) -> Score:
        """Train settings at a share of their full length, from scratch; nothing is written.

        Raises what a training raises, such as `ModelError` when the loss is no longer a number.
        """
        full = int(config.settings.training.epochs)
        config, fidelity = self.shortened(config, share)
        prepared = self._with_share(fidelity.data_share, config.settings.training.seed)
        use_threads(config, self.device)
        options = describe_model(config, prepared)["options"]
        model = first_model(config, prepared, options).to(self.device)
        batches = build_batches(config, prepared, self.device)
        with log.silence():
            outcome = build_trainer(config, prepared, model, batches).fit(
                unit=prepared.kind, hooks=Hooks(on_epoch=on_epoch)
            )
        best = outcome.best
        return Score(
            loss=best.validation_loss,
            accuracy=best.validation_accuracy or 0.0,
            epoch=best.epoch + 1,
            epochs=fidelity.epochs,
            data_share=fidelity.data_share,
            fidelity=fidelity.of(full),
            seconds=sum(row.seconds for row in outcome.history),
        )

    def _with_share(self, share: float, seed: int) -> PreparedData:
        """The data with so much of its train part, every class in its proportion; smaller shares lie in larger ones."""
        if share >= 1:
            return self.prepared
        if share not in self.parts:
            whole = self.prepared.parts["train"]
            order = np.random.default_rng(stream_seed(seed, 0, "share")).permutation(len(whole))
            kept = [
                members[: max(1, round(share * len(members)))]
                for label in np.unique(whole.labels)
                if len(members := order[whole.labels[order] == label])
            ]
            chosen = np.sort(np.concatenate(kept))
            self.parts[share] = Part(_taken(whole.inputs, chosen), whole.labels[chosen], whole.indices[chosen])
        parts = {**self.prepared.parts, "train": self.parts[share]}
        return PreparedData(**{**vars(self.prepared), "parts": parts})


def _taken(inputs: Any, chosen: np.ndarray) -> Any:
    """Some inputs of a part, which stay where they are: in memory or on disk."""
    if isinstance(inputs, PixelRows):
        return PixelRows(inputs.pixels, inputs.places[chosen])
    return inputs[chosen] if isinstance(inputs, np.ndarray) else [inputs[place] for place in chosen]
