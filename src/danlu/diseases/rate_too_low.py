"""A learning rate at which the weights hardly move."""

from __future__ import annotations

import math

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, short

CRAWL = 3e-5
TIMES_USUAL = 10.0
LITTLE, HARDLY = 0.5, 0.1  # of the first loss
LEARNT, GAP = 0.95, 0.05
ROSE = 1.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Weights change by less than 1/30,000 in a step and little was learnt; or the rate is far below the usual one,
    and train examples are not learnt either.
    """
    if evidence.range_test:
        return _probed(evidence)
    rate, usual = evidence.learning_rate, evidence.usual_setting("training.learning_rate")
    start, end = evidence.first_loss, evidence.last_loss
    if not (math.isfinite(start) and math.isfinite(end)) or start <= 0:
        return None
    crawls, is_far = evidence.update_ratio < CRAWL, rate < usual / TIMES_USUAL
    learnt = (start - end) / start
    is_little = learnt <= LITTLE and not evidence.validation_accuracy > evidence.half_way
    is_behind = learnt < HARDLY or evidence.train_accuracy < evidence.validation_accuracy + GAP
    is_unfinished = evidence.train_accuracy < LEARNT and is_behind
    has_leapt = float(np.nanmax(evidence.smoothed)) > ROSE * start or evidence.has_fallen_back
    if not (crawls or is_far) or not (is_little or (is_far and is_unfinished)) or end > start * 1.1 or has_leapt:
        return None
    cured = "auto" if is_far else float(f"{rate * 10:.2g}") if math.isfinite(rate) else None
    return Diagnosis(
        "rate_too_low",
        f"the learning rate of {short(rate)} is too low"
        + (f": {short(usual)} is usual here" if is_far else ": the weights hardly move"),
        (
            ("learning rate", short(rate)),
            (
                "change of the weights in a step, as a share of them",
                "not looked at" if math.isnan(evidence.update_ratio) else short(evidence.update_ratio),
            ),
            ("loss, first → last", f"{short(start)} → {short(end)}"),
        ),
        0.95 if crawls and is_far else 0.85 if is_little or learnt <= LITTLE else 0.6,
        Cure(
            "raise the learning rate; `danlu probe` measures where it may lie",
            {"training.learning_rate": cured} if cured is not None else {},
        ),
        Chart("step", "loss", {"loss": loss_line(evidence)}, {"guessing": evidence.guessing_loss}),
    )


def _probed(evidence: TrainingEvidence) -> Diagnosis | None:
    """By a range test: the loss begins to fall at a higher rate only."""
    tested, rate = evidence.range_test, evidence.learning_rate
    if tested.get("judged") != "too low":
        return None
    suggested = float(f"{tested['suggested']:.2g}")
    return Diagnosis(
        "rate_too_low",
        f"the learning rate of {short(rate)} is below {short(tested['falls_from'])}, where the loss begins to fall in"
        " the range test",
        (
            ("learning rate", short(rate)),
            ("the loss falls from", short(tested["falls_from"])),
            ("suggested", short(suggested)),
        ),
        0.9,
        Cure("take the suggested rate", {"training.learning_rate": suggested}),
    )
