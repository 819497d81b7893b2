"""Gradients that grow from layer to layer until a step is a leap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, short, watched_line

HUGE, LARGE = 1000.0, 100.0


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """The norm before the first update: later ones may be the learning rate's doing (Pascanu et al., 2013)."""
    if not evidence.watched:
        return None
    norms = np.array([math.nan if row["gradient_norm"] is None else row["gradient_norm"] for row in evidence.watched])
    some = any(layer["gradient_norm"] is not None for layer in evidence.watched[0]["layers"])
    first = float(norms[0]) if math.isfinite(norms[0]) else math.inf if some else 0.0  # beyond what a number can say
    if first < LARGE or not math.isfinite(evidence.first_loss):
        return None  # of a loss that is no number, gradients are none either
    first_loss = evidence.first_loss / max(evidence.guessing_loss, 1e-9)
    settings: dict[str, Any] = {}
    if evidence.settings.get("training.clip_norm") is None:
        settings["training.clip_norm"] = 1.0
    if evidence.settings.get("model.initialization") not in (None, "kaiming"):
        settings["model.initialization"] = "kaiming"
    return Diagnosis(
        "exploding_gradients",
        f"the gradient's norm is {short(first) if math.isfinite(first) else 'no number'} before anything was learnt;"
        " about 1 is usual",
        (
            ("gradient norm of the first step", short(first)),
            ("largest seen", short(float(np.nanmax(norms))) if np.isfinite(norms).any() else "no number"),
            ("first loss, in units of guessing", short(first_loss)),
        ),
        0.9 if first >= HUGE and evidence.is_classification else 0.6,
        Cure(
            ("" if evidence.is_classification else "scale the targets, since large ones alone make large gradients; ")
            + "clip the norm (`training.clip_norm=1`), make the first weights smaller (`model.initialization=kaiming`),"
            " and put batch norm between many layers",
            settings,
        ),
        Chart("step", "gradient norm", {"gradient norm": watched_line(evidence, norms)}, log=True),
    )
