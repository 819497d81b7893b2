"""When a model answers `unknown`: the threshold for an error rate that its owner wishes."""

from __future__ import annotations

from dataclasses import replace

from danlu.base import log
from danlu.base.errors import ConfigError
from danlu.prediction.answers import UNKNOWN, Answers
from danlu.scores.calibration import NEVER, SURE, Calibration, choose_threshold, examples_needed


def with_threshold(calibration: Calibration, answers: Answers, max_error: float | None) -> Calibration:
    """The calibration with the threshold that keeps errors at `max_error`, from answers to validation examples.

    Where no threshold can promise that, none of the answers is given, and it is said why.
    """
    if max_error is None:
        return replace(calibration, threshold=None, max_error=None)
    if UNKNOWN in answers.truth:
        raise ConfigError(
            f"a class is called `{UNKNOWN}`, which is also the answer below the threshold", hint="rename the class"
        )
    right = answers.right
    threshold = choose_threshold(answers.confidence, right, max_error)
    promise = f"at most {max_error:.2%} wrong answers (sure to {SURE:.0%})"
    if threshold is None:
        needed = f"{examples_needed(max_error):,} right answers to validation examples and no wrong one would do"
        log.warn(
            f"no threshold promises {promise}: even the surest answers are wrong too often, or too few ({needed});"
            " every answer will be `unknown`"
        )
        return replace(calibration, threshold=NEVER, max_error=max_error)
    answered = float((answers.confidence >= threshold).mean())
    log.say(f"rejection: below a confidence of {threshold:.4f} the answer is `unknown`, which promises {promise}")
    log.say(f"  {answered:.1%} of the validation examples are answered")
    return replace(calibration, threshold=threshold, max_error=max_error)
