"""What makes the scores of a trained model probabilities: a temperature, from the validation part alone."""

from __future__ import annotations

from danlu.base import log
from danlu.base.files import write_sealed_json
from danlu.base.runs import Run
from danlu.data.prepare import PreparedData
from danlu.prediction.answers import Answers
from danlu.prediction.predictor import load
from danlu.prediction.rejection import with_threshold
from danlu.scores.calibration import Calibration, expected_calibration_error, fit_temperature


def calibrate(run: Run, prepared: PreparedData, max_error: float | None) -> Calibration:
    """Fit the temperature of a run's best weights, choose its threshold where an error rate is wished, write both.

    The validation part has already chosen the best epoch, so its confidence is a little too good; one number fitted
    on hundreds of examples adds next to nothing to that.
    """
    part = prepared.parts["validation"]
    predictor = load(run)
    probabilities = predictor.plain_probabilities(part.inputs)
    fitted = Calibration(fit_temperature(probabilities, part.labels), len(part))
    cooled = fitted.apply(probabilities)
    answers = Answers.of(cooled, part.labels, prepared.classes, [prepared.examples.keys[i] for i in part.indices])
    answers.write(run.answers_file("validation"))
    right = answers.right
    before = expected_calibration_error(probabilities.max(1), right)
    after = expected_calibration_error(answers.confidence, right)
    log.say(
        f"calibration: temperature {fitted.temperature:.3f} from {len(part):,} validation examples,"
        f" calibration error {before:.2%} before and {after:.2%} after"
    )
    calibration = with_threshold(fitted, answers, max_error)
    write_sealed_json(run.calibration_file, {"format": 1, **calibration.to_json()})
    return calibration
