"""Most of the training brought nothing: the loss stays where it was early on."""

from __future__ import annotations

import math

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, epoch_line, percent, short

FEWEST_EPOCHS = 6
FLAT = 0.05
ROOM = 0.97


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Something was learnt, then the train loss moved by less than 5 % in the second half, with room left."""
    losses = evidence.curve("train_loss")
    train, best = evidence.train_accuracy, evidence.validation_accuracy
    if len(losses) < FEWEST_EPOCHS or not np.isfinite(losses).all() or evidence.learns_nothing or train > ROOM:
        return None
    middle = len(losses) // 2
    early, late = float(losses[middle - 1 : middle + 1].mean()), float(losses[-2:].mean())
    learnt = float(losses[0]) - late
    moved = (early - late) / max(early, 1e-9)
    if abs(moved) > FLAT or learnt <= 0 or train - best > 0.2:
        return None
    rates = evidence.curve("learning_rate")
    peak = float(np.nanmax(rates)) if np.isfinite(rates).any() else math.nan
    is_constant = evidence.settings.get("training.schedule") == "constant"
    is_over = bool(np.isfinite(peak) and rates[middle] < 0.02 * peak)
    usual = evidence.usual.get("training.schedule", "one_cycle")
    settings = {"training.schedule": usual} if evidence.settings.get("training.schedule") != usual else {}
    if settings and evidence.learning_rate > 3 * evidence.usual_setting("training.learning_rate"):
        settings["training.learning_rate"] = "auto"
    why = (
        "the rate stays as high as it began"
        if is_constant
        else "the rate became too small too early"
        if is_over
        else ""
    )
    return Diagnosis(
        "plateau",
        f"the second half of the training changed the loss by {percent(abs(moved))} only" + (f": {why}" if why else ""),
        (
            ("train loss, half-way → end", f"{short(early)} → {short(late)}"),
            ("train accuracy at the end", percent(train)),
            ("learning rate, half-way → end", f"{short(float(rates[middle]))} → {short(float(rates[-1]))}"),
        ),
        0.85 if is_constant or is_over else 0.5,
        Cure("use a schedule that lets the rate fall over the whole training", settings),
        Chart(
            "epoch",
            "loss",
            {"train": epoch_line(evidence, "train_loss"), "validation": epoch_line(evidence, "validation_loss")},
        ),
    )
