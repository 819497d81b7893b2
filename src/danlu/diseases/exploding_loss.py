"""A loss that grows instead of falling, or is no number any more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, short

GREW, PEAK = 2.0, 5.0
CALM, LONG = 1.5, 10  # a loss that had not grown, for so many steps


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Above its beginning, no number, or, of a classifier, below 0, where no such loss can be."""
    losses = evidence.smoothed
    if not len(losses):
        return None
    if evidence.is_classification and evidence.last_loss < 0 and not evidence.has_bad_loss:
        return _below_zero(evidence)
    start, end = evidence.first_loss, evidence.last_loss
    base = max(start, evidence.guessing_loss) if evidence.is_classification else start
    peak = float(np.nanmax(losses)) if np.isfinite(losses).any() else math.inf
    grew = end > GREW * base
    if not (evidence.has_bad_loss or grew or peak > PEAK * base):
        return None
    rate = evidence.learning_rate
    settings: dict[str, Any] = {}
    advice = "lower the learning rate to a tenth, or clip gradients with `training.clip_norm=1`"
    if evidence.has_bad_loss and math.isnan(start):
        advice = "nothing was learnt yet: look at the inputs, the first weights and the loss itself"
    elif _is_sudden(evidence, base):
        advice = (
            "look for what makes NaN once in a while: an augmentation, a division by zero, a logarithm or root of 0 in"
            " `forward` or the loss"
        )
    elif rate > 10 * evidence.usual_setting("training.learning_rate"):
        advice = "lower the learning rate, which is far above the usual one"
        settings["training.learning_rate"] = "auto"
    elif math.isfinite(rate):
        settings["training.learning_rate"] = float(f"{rate / 10:.2g}")
    if evidence.has_bad_loss:
        step = int(np.flatnonzero(np.isnan(evidence.losses))[0])
        told = f"the loss is no number from step {step + 1:,} on"
        if _is_sudden(evidence, base):
            told += f", although it was {short(float(evidence.losses[step - 1]))} one step before and had not grown"
    else:
        told = f"the loss grew from {short(start)} to {short(end if grew else peak)}" + (
            "" if grew else ", and came back"
        )
    return Diagnosis(
        "exploding_loss",
        told,
        (("first loss", _told(start)), ("highest, smoothed", _told(peak)), ("last", _told(end))),
        0.95 if evidence.has_bad_loss or grew else 0.5,
        Cure(advice, settings),
        Chart("step", "loss", {"loss": loss_line(evidence)}, {"guessing": evidence.guessing_loss}, log=True),
    )


def _is_sudden(evidence: TrainingEvidence, base: float) -> bool:
    """Whether the first loss that is no number came out of calm: a rate too high would have been seen before."""
    bad = np.flatnonzero(np.isnan(evidence.losses))
    if not len(bad) or bad[0] < LONG:
        return False
    before = evidence.losses[: bad[0]]
    return bool(np.nanmax(before[-LONG:]) <= CALM * base)


def _below_zero(evidence: TrainingEvidence) -> Diagnosis:
    end = evidence.last_loss
    return Diagnosis(
        "exploding_loss",
        f"the loss falls below 0, to {short(end)}: for classes it cannot be, so it falls without end and means nothing",
        (("first loss", _told(evidence.first_loss)), ("last", short(end))),
        0.95,
        Cure(
            "turn its sign round if it is negated; `nn.NLLLoss` wants the output of `log_softmax`, and"
            " `nn.CrossEntropyLoss` raw scores"
        ),
        Chart("step", "loss", {"loss": loss_line(evidence)}),
    )


def _told(value: float) -> str:
    return short(value) if math.isfinite(value) else "no number"
