"""Not even the train examples are learnt: too few steps, or too small a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, epoch_line, percent

SMALL_GAP = 0.1
NEARLY = 0.97  # of the loss of guessing: then something else keeps it from learning
STILL_FALLING = 0.03
SHORT, MUCH_LEFT, MOST_OF = 0.25, 0.9, 0.7
DEEP = 12  # layers, where two or three are usual
SMALL = "use a larger model, with less dropout"


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Train accuracy nearer to chance than to 1, and validation no worse; whether the loss still falls tells why."""
    train = evidence.train_accuracy
    best = evidence.validation_accuracy
    if not math.isfinite(train) or not math.isfinite(best) or evidence.has_bad_loss:
        return None
    losses = evidence.curve("train_loss")
    is_short = _is_short(evidence)
    small = _unusual_options(evidence)
    half_learnt = max(train, best) > evidence.half_way
    if train - best > SMALL_GAP or (half_learnt and not is_short and not (small and max(train, best) < MUCH_LEFT)):
        return None
    is_falling = is_short or len(losses) < 3 or losses[-1] < (1 - STILL_FALLING) * losses[-2]
    epochs = len(losses)
    usual = int(evidence.usual_setting("training.epochs")) if "training.epochs" in evidence.usual else 0
    command = None
    if evidence.is_unfinished:
        advice, settings, command = "go on with it: it was not trained to its end", {}, "train --resume RUN"
    elif small:
        advice, settings = SMALL, small
        if len(evidence.settings.get("model.widths") or ()) >= DEEP and "model.widths" in small:
            advice = "use fewer layers: without batch norm or shortcuts, little gets through so many"
    elif is_falling:
        advice, settings = "train longer: the loss is still falling", {"training.epochs": max(usual, 3 * epochs)}
    elif epochs < MOST_OF * usual:
        advice, settings = f"train longer: {usual} epochs are usual for so many examples", {"training.epochs": usual}
    else:
        advice, settings = "use a larger model, less dropout, or another architecture", {}
    is_telling = bool(small) or not (evidence.learns_nothing or evidence.last_loss > NEARLY * evidence.guessing_loss)
    is_sure = is_telling and (is_short or not half_learnt) and not evidence.is_unfinished
    return Diagnosis(
        "underfitting",
        (
            "train examples are learnt in part only"
            if train > evidence.half_way
            else "not even train examples are learnt"
        )
        + f": {percent(train)} are answered right after {epochs}"
        f" {'epoch' if epochs == 1 else 'epochs'}",
        (
            ("train accuracy", percent(train)),
            ("best validation accuracy", percent(best)),
            ("chance", percent(evidence.chance)),
            ("the loss", "is still falling" if is_falling else "does not fall any more"),
        ),
        0.85 if is_sure else 0.6,
        Cure(advice, settings, command),
        Chart(
            "epoch",
            "loss",
            {"train": epoch_line(evidence, "train_loss"), "validation": epoch_line(evidence, "validation_loss")},
        ),
    )


def _is_short(evidence: TrainingEvidence) -> bool:
    """A fourth of the usual epochs or less, the last of them the best, and much left to learn."""
    usual, accuracies = evidence.usual_setting("training.epochs"), evidence.curve("validation_accuracy")
    is_last_best = len(accuracies) > 0 and float(accuracies[-1]) >= float(np.nanmax(accuracies))
    return is_last_best and len(accuracies) <= SHORT * usual and evidence.validation_accuracy < MUCH_LEFT


def _unusual_options(evidence: TrainingEvidence) -> dict[str, Any]:
    """Options of the model far from what is usual for it, set back."""
    settings = {}
    for key, usual in evidence.usual.items():
        if not key.startswith("model."):
            continue
        own = evidence.settings.get(key)
        if key == "model.widths" and own and usual and (max(own) < 0.25 * max(usual) or len(own) >= DEEP):
            settings[key] = usual
        if key.endswith("size") and isinstance(usual, int) and isinstance(own, int) and own < 0.25 * usual:
            settings[key] = usual
        if "dropout" in key and isinstance(own, float) and own >= 0.7 and own > float(np.max(usual)):
            settings[key] = usual
    return settings
