"""What makes the scores of a trained model probabilities: a temperature, from the validation part alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from danlu.base import log
from danlu.base.files import write_sealed_json
from danlu.base.runs import Run
from danlu.data.prepare import PreparedData
from danlu.prediction.answers import Answers
from danlu.prediction.predictor import load
from danlu.prediction.rejection import with_threshold
from danlu.scores.calibration import Calibration, expected_calibration_error, fit_temperature

if TYPE_CHECKING:
    import numpy as np


def calibrate(run: Run, prepared: PreparedData, max_error: float | None) -> Calibration:
    """Fit the temperature of a run's best weights, choose its threshold where an error rate is wished, write both.

    The validation part has already chosen the best epoch, so its confidence is a little too good; one number fitted
    on hundreds of examples adds next to nothing to that.
    """
    part = prepared.parts["validation"]
    probabilities = load(run).plain_probabilities(part.inputs)
    keys = [prepared.examples.keys[i] for i in part.indices]
    return note_answers(run, Asked(probabilities, part.labels, prepared.classes, keys), max_error)


@dataclass(frozen=True)
class Asked:
    """What a model said of the validation part: (examples, classes) `probabilities` at temperature 1.

    `labels`: (examples,); `keys`: what each example is called.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    keys: Sequence[str]


def note_answers(run: Run, asked: Asked, max_error: float | None = None) -> Calibration:
    """Fit temperature and threshold, write them to `calibration.json`, and the answers to `answers-validation.csv`."""
    probabilities, labels = asked.probabilities, asked.labels
    fitted = Calibration(fit_temperature(probabilities, labels), len(labels))
    answers = Answers.of(fitted.apply(probabilities), labels, asked.classes, asked.keys)
    answers.write(run.answers_file("validation"))
    right = answers.right
    before = expected_calibration_error(probabilities.max(1), right)
    after = expected_calibration_error(answers.confidence, right)
    log.say(
        f"calibration: temperature {fitted.temperature:.3f} from {len(labels):,} validation examples,"
        f" calibration error {before:.2%} before and {after:.2%} after"
    )
    calibration = with_threshold(fitted, answers, max_error)
    write_sealed_json(run.calibration_file, {"format": 1, **calibration.to_json()})
    return calibration
