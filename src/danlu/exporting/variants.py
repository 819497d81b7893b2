"""What may answer beside fp32: int8 files, and what each changes on examples that did not calibrate it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from danlu.base.errors import DataError, ModelError
from danlu.exporting.held_out import HeldOut
from danlu.inputs.texts import pad_rows
from danlu.prediction.onnx_engine import HowToRun, OnnxEngine
from danlu.prediction.predictor import Predictor
from danlu.scores.comparison import paired_difference

CALIBRATED_FROM = 512
CALIBRATED_AT_ONCE = 64
AS_IT_COMES = HowToRun()


@dataclass(frozen=True)
class Change:
    """What a variant changes on some examples: accuracy with its 95 % interval, labels and probabilities."""

    examples: int
    accuracy: float
    change: float
    change_interval: tuple[float, float]
    same_labels: int
    largest_gap: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.change_interval)
        return f"{100 * self.change:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})"


@dataclass(frozen=True)
class Candidate:
    """One way to make a variant, and to run it. `change`: of accuracy on validation examples; none for fp32."""

    variant: str
    made_as: str
    data: bytes
    trained: Predictor
    how: HowToRun = AS_IT_COMES
    change: Change | None = None

    def open(self, how: HowToRun) -> OnnxEngine:
        classes = len(self.trained.classes)
        return OnnxEngine(self.data, name=self.made_as, kind=self.trained.kind, num_classes=classes, how=how)

    def predictor(self) -> Predictor:
        return answering_by(self.trained, self.open(self.how))


def candidates(
    variants: Sequence[str], whole: Candidate, validation: HeldOut, max_drop: float
) -> dict[str, list[Candidate]]:
    """fp32 and, for each variant, the ways to make it that lose no more than `max_drop` of accuracy.

    Ranges are taken from half of the validation examples and the loss from the others. Raises `ModelError` where a
    variant loses more in every way.
    """
    found = {whole.variant: [whole]}
    for variant in variants:
        examples = judged(validation)
        made = [
            Candidate(variant, made_as, data, whole.trained)
            for made_as, data in _files(variant, whole.data, validation).items()
        ]
        tried = [(change_of(whole.predictor(), one.predictor(), examples), one) for one in made]
        found[variant] = [replace(one, change=change) for change, one in tried if change.change >= -max_drop]
        if not found[variant]:
            change, least = max(tried, key=lambda pair: pair[0].change)
            raise _loses_too_much(least, change, max_drop)
    return found


def judged_as_run(
    candidate: Candidate, how: HowToRun, whole: Candidate, examples: HeldOut, max_drop: float
) -> Candidate:
    """The candidate run in this way, judged again.

    With another number of threads a dynamic int8 BiLSTM rounds otherwise: probabilities differed by 0.001. Raises
    `ModelError` where it loses more than `max_drop` of accuracy in this way.
    """
    chosen = replace(candidate, how=how)
    if candidate.change is None:
        return chosen
    change = change_of(whole.predictor(), chosen.predictor(), examples)
    if change.change < -max_drop:
        raise _loses_too_much(chosen, change, max_drop)
    return replace(chosen, change=change)


def _loses_too_much(candidate: Candidate, change: Change, max_drop: float) -> ModelError:
    above = math.floor(-100 * change.change) + 1  # percent, the next whole number above what is lost
    return ModelError(
        f"{candidate.made_as} changes accuracy by {change} on {change.examples:,} validation examples, of which"
        f" one is {100 / change.examples:.2g} points; the limit is {-100 * max_drop:.2f}",
        hint=f"nothing was written; `--max-drop {above}%` allows it",
    )


def judged(validation: HeldOut) -> HeldOut:
    """The validation examples from which no range was taken. Raises `DataError` where none is left."""
    chosen = _halves(validation)[1]
    if not len(chosen):
        raise DataError("one validation example is too few: int8 needs some to take ranges from and others to judge")
    return validation.select(chosen)


def change_of(whole: Predictor, variant: Predictor, examples: HeldOut) -> Change:
    """What `variant` answers otherwise than `whole`."""
    before, after = whole.probabilities(examples.inputs), variant.probabilities(examples.inputs)
    labels = examples.labels
    difference = paired_difference(after.argmax(1) == labels, before.argmax(1) == labels)
    return Change(
        examples=len(labels),
        accuracy=float((after.argmax(1) == labels).mean()),
        change=difference.accuracy,
        change_interval=difference.interval,
        same_labels=int((after.argmax(1) == before.argmax(1)).sum()),
        largest_gap=float(np.abs(after - before).max()),
    )


def accuracy_of(predictor: Predictor, examples: HeldOut) -> float:
    return float((predictor.probabilities(examples.inputs).argmax(1) == examples.labels).mean())


def answering_by(trained: Predictor, engine: Any) -> Predictor:
    """The trained model's preprocessing, classes and calibration with another engine."""
    return Predictor(trained.kind, trained.classes, trained.recipe, engine, trained.calibration)


def batch_of(inputs: Any) -> np.ndarray:
    """Inputs as one array, texts filled to the longest."""
    return inputs if isinstance(inputs, np.ndarray) else pad_rows(inputs)


def _files(variant: str, model: bytes, validation: HeldOut) -> dict[str, bytes]:
    """The files of a variant, of which measuring chooses, by how they are made."""
    from danlu.exporting.int8 import dynamic_int8_bytes, int8_files

    if variant == "dynamic-int8":
        return {"dynamic-int8": dynamic_int8_bytes(model)}
    calibrating = validation.select(_halves(validation)[0])
    starts = range(0, len(calibrating), CALIBRATED_AT_ONCE)
    return int8_files(model, [batch_of(calibrating.inputs[start : start + CALIBRATED_AT_ONCE]) for start in starts])


def _halves(examples: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Every second example, 512 at most, to take ranges from, and the others."""
    places = np.arange(len(examples))
    return places[::2][:CALIBRATED_FROM], places[1::2]
