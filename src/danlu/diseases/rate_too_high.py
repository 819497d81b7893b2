"""A learning rate at which each step leaps over what it should come to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, percent, short

LEAP = 0.1
TIMES_USUAL, TIMES_ANY = 10.0, 100.0  # of the rate tuned for the model, and of that of any model
DIED = 0.3
ROSE = 1.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """A loss that rises above its beginning or is no number, steps that change weights by a tenth and more, a rate
    far above the usual one, units that died on the way: two of them, or such a rate where little was learnt or what
    was learnt is lost again.
    """
    if evidence.range_test:
        return _probed(evidence)
    losses, rate, usual = evidence.smoothed, evidence.learning_rate, evidence.usual_rate
    start = max(evidence.first_loss, evidence.guessing_loss) if evidence.is_classification else evidence.first_loss
    peak = float(np.nanmax(losses)) if np.isfinite(losses).any() else math.inf
    rose = peak > ROSE * start or (evidence.has_bad_loss and math.isfinite(start))
    leaps, died = evidence.largest_update > LEAP, evidence.died_share > DIED
    is_far = rate > (TIMES_USUAL if evidence.usual else TIMES_ANY) * usual
    signs = [rose, leaps, is_far, died]
    lost = evidence.has_fallen_back
    hurts = evidence.learns_nothing or lost or evidence.validation_accuracy < evidence.half_way
    if not (is_far and hurts) and (sum(signs) < 2 or not (hurts or rose or (is_far and died))):
        return None
    if evidence.has_bad_loss and not (rose and (leaps or is_far)):
        return None
    why = (
        f": {short(usual)} is usual{' for this optimizer' if evidence.is_own else ' here'}"
        if is_far
        else ": steps leap instead of descending"
        if leaps
        else ": the loss rises and units die"
    )
    if lost:
        why += f"; {percent(evidence.validation_accuracy)} had been reached before all was lost again"
    cured: Any = (
        "auto"
        if is_far and not evidence.is_own
        else usual
        if is_far
        else float(f"{rate / 10:.2g}")
        if math.isfinite(rate)
        else None
    )
    return Diagnosis(
        "rate_too_high",
        f"the learning rate of {short(rate)} is too high{why}",
        (
            ("learning rate", short(rate)),
            (
                "largest change of the weights in a step seen, as a share of them",
                "not looked at" if math.isnan(evidence.largest_update) else short(evidence.largest_update),
            ),
            ("highest loss, smoothed", "no number" if evidence.has_bad_loss else short(peak)),
            ("first loss", short(evidence.first_loss) if math.isfinite(evidence.first_loss) else "no number"),
            *((("units that died on the way", percent(evidence.died_share)),) if died else ()),
        ),
        0.95 if is_far and hurts else 0.85 if hurts else 0.6,
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
