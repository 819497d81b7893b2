"""A loss that grows instead of falling, or is no number any more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, short

GREW, PEAK = 2.0, 5.0


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    losses = evidence.smoothed
    if not len(losses):
        return None
    start, end = evidence.first_loss, evidence.last_loss
    peak = float(np.nanmax(losses)) if np.isfinite(losses).any() else math.inf
    grew = end > GREW * max(start, evidence.guessing_loss)
    if not (evidence.has_bad_loss or grew or peak > PEAK * max(start, evidence.guessing_loss)):
        return None
    rate = evidence.learning_rate
    settings: dict[str, Any] = {}
    if rate > 10 * evidence.usual_setting("training.learning_rate"):
        settings["training.learning_rate"] = "auto"
    elif math.isfinite(rate):
        settings["training.learning_rate"] = float(f"{rate / 10:.2g}")
    if evidence.has_bad_loss:
        step = int(np.flatnonzero(np.isnan(evidence.losses))[0])
        told = f"the loss is no number from step {step + 1:,} on"
    else:
        told = f"the loss grew from {short(start)} to {short(end if grew else peak)}" + (
            "" if grew else ", and came back"
        )
    return Diagnosis(
        "exploding_loss",
        told,
        (("first loss", short(start)), ("highest, smoothed", short(peak)), ("last", short(end))),
        0.95 if evidence.has_bad_loss or grew else 0.5,
        Cure("lower the learning rate to a tenth, or clip gradients with `training.clip_norm=1`", settings),
        Chart("step", "loss", {"loss": loss_line(evidence)}, {"guessing": evidence.guessing_loss}, log=True),
    )
