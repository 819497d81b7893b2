"""A learning rate at which each step leaps over what it should come to."""

from __future__ import annotations

import math

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, short

LEAP = 0.1
TIMES_USUAL = 10.0
ROSE = 1.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """A loss that rises above its beginning or is no number, steps that change weights by a tenth and more, a rate
    far above the usual one: two of the three.
    """
    if evidence.range_test:
        return _probed(evidence)
    losses, rate = evidence.smoothed, evidence.learning_rate
    usual = evidence.usual_setting("training.learning_rate")
    start = max(evidence.first_loss, evidence.guessing_loss)
    peak = float(np.nanmax(losses)) if np.isfinite(losses).any() else math.inf
    rose = evidence.has_bad_loss or peak > ROSE * start
    leaps = evidence.update_ratio > LEAP
    is_far = rate > TIMES_USUAL * usual
    signs = [rose, leaps, is_far]
    hurts = evidence.learns_nothing or evidence.validation_accuracy < evidence.half_way
    if sum(signs) < 2 or not (hurts or rose):
        return None
    cured = "auto" if is_far else float(f"{rate / 10:.2g}") if math.isfinite(rate) else None
    return Diagnosis(
        "rate_too_high",
        f"the learning rate of {short(rate)} is too high"
        + (f": danlu would choose {short(usual)}" if is_far else ": steps leap instead of descending"),
        (
            ("learning rate", short(rate)),
            (
                "change of the weights in a step",
                "not looked at" if math.isnan(evidence.update_ratio) else short(evidence.update_ratio),
            ),
            ("highest loss, smoothed", "no number" if evidence.has_bad_loss else short(peak)),
            ("loss of guessing", short(evidence.guessing_loss)),
        ),
        0.95 if sum(signs) == 3 or (is_far and hurts) else 0.8 if hurts else 0.6,
        Cure(
            "lower the learning rate; `danlu probe` measures where it may lie",
            {"training.learning_rate": cured} if cured is not None else {},
        ),
        Chart("step", "loss", {"loss": loss_line(evidence)}, {"guessing": evidence.guessing_loss}),
    )


def _probed(evidence: TrainingEvidence) -> Diagnosis | None:
    """By a range test: the loss has blown up at the configured rate."""
    tested, rate = evidence.range_test, evidence.learning_rate
    if tested.get("judged") != "too high":
        return None
    suggested = float(f"{tested['suggested']:.2g}")
    return Diagnosis(
        "rate_too_high",
        f"at the learning rate of {short(rate)} the loss has blown up in the range test, which it did at"
        f" {short(tested['blows_up_at'])}",
        (
            ("learning rate", short(rate)),
            ("the loss falls from", short(tested["falls_from"])),
            ("the loss blows up at", short(tested["blows_up_at"])),
            ("suggested", short(suggested)),
        ),
        0.9,
        Cure("take the suggested rate", {"training.learning_rate": suggested}),
    )
