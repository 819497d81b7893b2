"""Weight decay that pulls the weights to 0 faster than the loss can pull them away."""

from __future__ import annotations

import math

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent, short, watched_line

TIMES_USUAL = 10.0
STRONG = 0.5
SHRUNK = 0.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """A decay far above the usual, and weights that became much smaller than they were at first."""
    decay, usual = evidence.weight_decay, evidence.usual_setting("training.weight_decay")
    is_strong = decay >= STRONG or decay > TIMES_USUAL * max(usual, 1e-4)
    norms = evidence.of_layers("weight_norm")
    if not is_strong or not norms.size:
        return None
    total = np.sqrt(np.nansum(norms**2, axis=1))
    kept = float(total[-1] / max(total[0], 1e-12))
    if kept > SHRUNK and not (evidence.learns_nothing and decay >= STRONG):
        return None
    hurts = evidence.learns_nothing or not evidence.validation_accuracy >= evidence.half_way
    known = "" if math.isnan(usual) else f"; danlu would choose {short(usual)}"
    return Diagnosis(
        "strong_weight_decay",
        f"weight decay of {short(decay)} has shrunk the weights to {percent(kept)} of their first norm{known}",
        (("weight decay", short(decay)), ("norm of the weights, last ÷ first", percent(kept))),
        0.9 if hurts else 0.6,
        Cure("lower the weight decay", {"training.weight_decay": 0.01 if math.isnan(usual) else "auto"}),
        Chart("step", "norm of the weights", {"all layers": watched_line(evidence, total)}),
    )
