"""What the diseases look at: the numbers of one training, read from its run folder once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
SMOOTHED_STEPS = 10
LOST, NEARLY = 0.3, 0.9
# Their steps are as long as the rate, whatever the model: 1e-3 is the papers' own (Kingma and Ba, 2015).
USUAL_RATES = {"adam": 1e-3, "adamw": 1e-3, "nadam": 1e-3, "radam": 1e-3, "rmsprop": 1e-3}
UNKNOWN_SIZE = 100  # a validation part whose size nobody told


@dataclass(frozen=True)
class ValidationAnswers:
    """What the kept weights said of (examples,) validation examples: indices of classes, and confidences."""

    labels: np.ndarray
    answers: np.ndarray
    confidence: np.ndarray
    num_classes: int

    @cached_property
    def right(self) -> np.ndarray:
        right: np.ndarray = self.labels == self.answers
        return right

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def majority(self) -> float:
        """The accuracy of always answering the most frequent class."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    @cached_property
    def recalls(self) -> dict[int, float]:
        """Class → share of its examples that are recognised."""
        return {int(label): float(self.right[self.labels == label].mean()) for label in np.unique(self.labels)}

    @property
    def macro_recall(self) -> float:
        return float(np.mean(list(self.recalls.values())))

    def error_of_surest(self, share: float) -> float:
        """Error among the share of the examples whose answers are the surest."""
        count = max(1, round(share * len(self.labels)))
        chosen = np.argsort(-self.confidence, kind="stable")[:count]
        return float(1 - self.right[chosen].mean())


@dataclass(frozen=True)
class TrainingEvidence:
    """One training. Rows are as the run folder has them; what is not known is empty or None.

    `watched`: steps looked at from inside. `first`: the one-step test. `settings`: dotted key → value, also the options
    of the model that were left at their default. `usual`: what danlu would choose, where it knows. `failure`: what
    ended the training. `counts`: part → examples of each class. `sizes`: part → examples, also where their classes are
    not known. `leaked`: part → share of its examples whose content stands in the train part too. `overfit`,
    `range_test`: of a probe, as their `to_json` has them, `judged` with the latter: where the configured rate lies.
    """

    history: Rows = ()
    steps: Rows = ()
    watched: Rows = ()
    first: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    failure: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ()
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    leaked: Mapping[str, float] = field(default_factory=dict)
    states_parts: bool = False
    validation: ValidationAnswers | None = None
    overfit: Mapping[str, Any] = field(default_factory=dict)
    range_test: Mapping[str, Any] = field(default_factory=dict)
    is_own: bool = False
    is_unfinished: bool = False

    @cached_property
    def losses(self) -> np.ndarray:
        """(steps,) the loss of each, NaN where it was no number."""
        return np.array([math.nan if row["loss"] is None else row["loss"] for row in self.steps], dtype=float)

    @cached_property
    def smoothed(self) -> np.ndarray:
        """(steps,) the median of ten steps up to each."""
        if not len(self.losses):
            return self.losses
        padded = np.concatenate([np.full(SMOOTHED_STEPS - 1, math.nan), self.losses])
        windows = np.ma.masked_invalid(np.lib.stride_tricks.sliding_window_view(padded, SMOOTHED_STEPS))
        medians: np.ndarray = np.ma.median(windows, axis=1).filled(math.nan)
        return medians

    @property
    def first_loss(self) -> float:
        """The loss before anything was learnt; NaN when it is not known."""
        told = self.first.get("scores", {}).get("loss")
        return float(told) if told is not None else float(self.losses[0]) if len(self.losses) else math.nan

    @property
    def last_loss(self) -> float:
        """The median of the last tenth of the steps, at least ten and at most all."""
        if not len(self.losses):
            return math.nan
        last = self.losses[-max(SMOOTHED_STEPS, len(self.losses) // 10) :]
        return float(np.nanmedian(last)) if np.isfinite(last).any() else math.nan

    @property
    def has_bad_loss(self) -> bool:
        return bool(len(self.losses) and np.isnan(self.losses).any())

    @property
    def guessing_loss(self) -> float:
        """Cross entropy of answering every class with the same probability."""
        told = self.first.get("scores", {}).get("guessing_loss")
        return float(told) if told else math.log(max(2, len(self.classes)))

    @property
    def num_classes(self) -> int:
        shape = self.first.get("scores", {}).get("shape")
        return int(shape[1]) if shape else max(2, len(self.classes))

    @property
    def chance(self) -> float:
        """The accuracy of answering without looking: the share of the most frequent class."""
        if self.validation is not None:
            return self.validation.majority
        counts = self.counts.get("validation") or self.counts.get("train")
        return max(counts) / max(1, sum(counts)) if counts else 1 / self.num_classes

    @property
    def validation_size(self) -> int:
        if self.validation is not None:
            return len(self.validation.labels)
        return sum(self.counts.get("validation", ())) or self.sizes.get("validation", 0)

    @property
    def chance_error(self) -> float:
        """Standard error of an accuracy at chance on the validation part."""
        chance = self.chance
        return math.sqrt(chance * (1 - chance) / (self.validation_size or UNKNOWN_SIZE))

    def curve(self, key: str) -> np.ndarray:
        """(epochs,) of one value of the history, NaN where it is not told."""
        return np.array([math.nan if row.get(key) is None else row[key] for row in self.history], dtype=float)

    @property
    def train_accuracy(self) -> float:
        """Of the last epoch, as measured while training; NaN where there is none."""
        values = self.curve("train_accuracy")
        return float(values[-1]) if len(values) else math.nan

    @property
    def validation_accuracy(self) -> float:
        """The highest of all epochs; NaN where there is none."""
        values = self.curve("validation_accuracy")
        return float(np.nanmax(values)) if np.isfinite(values).any() else math.nan

    @property
    def is_classification(self) -> bool:
        """Whether answers are classes, as far as the training came."""
        return "shape" in self.first.get("scores", {}) or bool(np.isfinite(self.curve("validation_accuracy")).any())

    @property
    def learns_nothing(self) -> bool:
        """Whether no epoch's validation accuracy is clearly above chance; True where a classifier ended none."""
        best = self.validation_accuracy
        if not math.isfinite(best):
            return not self.history or self.is_classification
        return best <= self.chance + max(0.02, 3 * self.chance_error)

    @property
    def has_fallen_back(self) -> bool:
        """Whether what was learnt is lost again: at the end, train examples are answered much worse than validation
        examples once were, and the loss is nearly that of guessing.
        """
        train, best = self.train_accuracy, self.validation_accuracy
        return best - train > LOST and self.last_loss > NEARLY * self.guessing_loss

    @property
    def half_way(self) -> float:
        """An accuracy half-way between chance and perfection: below it little was learnt."""
        return (1 + self.chance) / 2

    @cached_property
    def weight_layers(self) -> list[str]:
        """Names of the layers that multiply their input by weights, in the order of the model."""
        rows = self.watched[0]["layers"] if self.watched else ()
        return [row["name"] for row in rows if row["parameters"] and row["kind"] not in NO_WEIGHTS]

    def of_layers(self, key: str, names: Sequence[str] | None = None) -> np.ndarray:
        """(watched steps, layers) of one value, NaN where it is not known; of `weight_layers` unless named."""
        wanted = self.weight_layers if names is None else list(names)
        table = np.full((len(self.watched), len(wanted)), math.nan)
        for place, row in enumerate(self.watched):
            by_name = {layer["name"]: layer[key] for layer in row["layers"]}
            for column, name in enumerate(wanted):
                if by_name.get(name) is not None:
                    table[place, column] = by_name[name]
        return table

    @property
    def activation_layers(self) -> list[str]:
        """Names of the activation functions."""
        rows = self.watched[0]["layers"] if self.watched else ()
        return [row["name"] for row in rows if not row["parameters"]]

    @property
    def learning_rate(self) -> float:
        """The highest one set; NaN where it is not known."""
        told = self.settings.get("training.learning_rate")
        if isinstance(told, (int, float)) and not self.is_own:
            return float(told)
        told = self.first.get("optimizer", {}).get("learning_rate", told)
        return float(told) if isinstance(told, (int, float)) else math.nan

    @property
    def weight_decay(self) -> float:
        told = self.first.get("optimizer", {}).get("weight_decay", self.settings.get("training.weight_decay"))
        return float(told) if isinstance(told, (int, float)) else math.nan

    @cached_property
    def update_ratio(self) -> float:
        """How much of a layer's weights a step changes, at the highest learning rate seen: the median of the layers,
        biases and embeddings left out; NaN where it is not known.
        """
        table = self.of_layers("update_ratio")
        learns = (self.of_layers("gradient_norm") > 0) & (table > 0)  # others do not learn for other reasons
        table = np.where(learns, table, math.nan)
        if not table.size or not np.isfinite(table).any():
            return math.nan
        rates = np.array([row["learning_rate"] for row in self.watched])
        high = table[rates >= 0.5 * rates.max()]
        return float(np.nanmedian(high)) if np.isfinite(high).any() else float(np.nanmedian(table))

    @cached_property
    def largest_update(self) -> float:
        """The same of the step that changed most, as early ones do before what they broke stops learning."""
        table = np.where(self.of_layers("gradient_norm") > 0, self.of_layers("update_ratio"), math.nan)
        rows = [float(np.nanmedian(row)) for row in table if np.isfinite(row).any()]
        return max(rows, default=math.nan)

    @property
    def usual_rate(self) -> float:
        """What danlu would choose; of a module of the user's own, the usual one of an adaptive optimizer."""
        if "training.learning_rate" in self.usual:
            return self.usual_setting("training.learning_rate")
        name = str(self.first.get("optimizer", {}).get("name", "")).lower()
        return USUAL_RATES.get(name, math.nan) if self.is_own else math.nan

    @property
    def died_share(self) -> float:
        """Of the layer where most units stopped answering after the first step: their share at the end of the looks."""
        table = self.of_layers("dead_share", self.activation_layers)
        if len(table) < 2 or not np.isfinite(table).any():
            return 0.0
        late = np.array([np.nanmedian(column) if np.isfinite(column).any() else 0.0 for column in table[1:].T])
        return float(np.nanmax(np.append(late - table[0], 0.0)))

    def usual_setting(self, key: str) -> float:
        told = self.usual.get(key)
        return float(told) if isinstance(told, (int, float)) else math.nan


NO_WEIGHTS = ("Embedding", "EmbeddingBag", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm")


def loss_line(evidence: TrainingEvidence, longest: int = 300) -> list[tuple[float, float]]:
    """(step, smoothed loss), thinned out to `longest` points; steps whose loss is no number are left out."""
    values = evidence.smoothed
    chosen = np.unique(np.linspace(0, len(values) - 1, min(longest, len(values))).round().astype(int))
    return [(int(i), float(values[i])) for i in chosen if math.isfinite(values[i])] if len(values) else []


def epoch_line(evidence: TrainingEvidence, key: str, factor: float = 1.0) -> list[tuple[float, float]]:
    """(epoch from 1, value) of the history."""
    return [(i + 1, float(v) * factor) for i, v in enumerate(evidence.curve(key)) if math.isfinite(v)]


def watched_line(evidence: TrainingEvidence, values: np.ndarray) -> list[tuple[float, float]]:
    """(step, value) of (watched steps,) values."""
    pairs = zip((row["step"] for row in evidence.watched), values.tolist(), strict=True)
    return [(step, value) for step, value in pairs if math.isfinite(value)]


def percent(value: float) -> str:
    """
    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * value:.1f} %"


def short(value: float) -> str:
    """
    >>> short(0.00012345), short(2.5)
    ('0.000123', '2.5')
    """
    return f"{value:.3g}"
