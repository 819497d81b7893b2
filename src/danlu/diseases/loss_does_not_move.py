"""A loss that ends where it began."""

from __future__ import annotations

import math

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, percent, short

STILL = 0.03
GREW = 1.5  # a loss that grows is another disease
FEWEST_STEPS = 10


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """The symptom, told last: whatever is found above it is why."""
    if evidence.range_test:
        return _probed(evidence)
    start, end = evidence.first_loss, evidence.last_loss
    if len(evidence.losses) < FEWEST_STEPS or not (math.isfinite(start) and math.isfinite(end)):
        return None
    base = min(start, evidence.guessing_loss) if evidence.is_classification else start
    moved = (base - end) / max(abs(base), 1e-9)
    if moved > STILL or end > GREW * base or not (evidence.learns_nothing or not evidence.is_classification):
        return None
    return Diagnosis(
        "loss_does_not_move",
        f"the loss is {short(end)} after {len(evidence.losses):,} steps and was {short(start)}: nothing was learnt",
        (
            ("first loss", short(start)),
            ("last loss", short(end)),
            ("of guessing", short(evidence.guessing_loss)),
            ("best validation accuracy", percent(evidence.validation_accuracy) if evidence.history else "none"),
            ("chance", percent(evidence.chance)),
        ),
        0.85,
        Cure("see whether one batch can be learnt by heart, and where the rate may lie", command="probe DATA"),
        Chart("step", "loss", {"loss": loss_line(evidence)}, {"guessing": evidence.guessing_loss}),
    )


def _probed(evidence: TrainingEvidence) -> Diagnosis | None:
    """By a range test that was long enough to see it fall."""
    tested = evidence.range_test
    if not tested.get("rates") or tested.get("judged") != "none learns":
        return None
    low, high = tested["rates"][0], tested["rates"][-1]
    return Diagnosis(
        "loss_does_not_move",
        f"the loss falls by more than chance at no learning rate from {low:.0e} to {high:.0e}",
        (("steps", f"{len(tested['rates']):,}"), ("rates", f"{low:.0e} to {high:.0e}")),
        0.85,
        Cure("look at the findings above it, and at the labels", command="inspect DATA --labels"),
    )
