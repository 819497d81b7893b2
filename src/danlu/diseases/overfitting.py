"""Train examples are learnt by heart: the model knows them much better than others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, epoch_line, percent, short

WIDE, SOME = 0.2, 0.1
ROSE = 1.1
BY_HEART = 0.98


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """The gap between the two accuracies at the end, and whether the validation loss has risen again."""
    losses, accuracies = evidence.curve("validation_loss"), evidence.curve("validation_accuracy")
    train = evidence.train_accuracy
    if len(losses) < 2 or not math.isfinite(train) or not np.isfinite(accuracies).all() or np.isnan(losses).any():
        return None
    gap = train - float(accuracies[-1])
    rise = float(losses[-1] / max(np.nanmin(losses), 1e-9))
    by_heart = train > BY_HEART
    if gap < SOME or evidence.learns_nothing or (gap < WIDE and rise < ROSE and not by_heart):
        return None
    examples = sum(evidence.counts.get("train", ()))
    return Diagnosis(
        "overfitting",
        f"train examples are answered right in {percent(train)} of cases, others in {percent(float(accuracies[-1]))}:"
        " the model learns them by heart",
        (
            ("gap at the end", f"{100 * gap:.1f} points"),
            ("validation loss, lowest → last", f"{short(float(np.nanmin(losses)))} → {short(float(losses[-1]))}"),
            *((("train examples", f"{examples:,}"),) if examples else ()),
        ),
        0.85 if gap >= WIDE and (rise >= ROSE or by_heart) else 0.6,
        Cure("more examples, augmentation, dropout, a smaller model, or fewer epochs", _settings(evidence)),
        Chart(
            "epoch",
            "loss",
            {"train": epoch_line(evidence, "train_loss"), "validation": epoch_line(evidence, "validation_loss")},
        ),
    )


def _settings(evidence: TrainingEvidence) -> dict[str, Any]:
    """What is switched off and helps against it."""
    settings: dict[str, Any] = {}
    for key in evidence.settings:
        name = key.removeprefix("model.")
        if key.startswith("model.") and name in ("dropout", "feature_dropout", "gram_dropout"):
            usual = evidence.usual.get(key, 0.0)
            if float(evidence.settings[key]) < max(float(usual), 0.3):
                settings[key] = max(float(usual), 0.3)
    if evidence.settings.get("augmentation.crop") == 0 and evidence.settings.get("model.name") != "mlp":
        settings["augmentation.crop"] = 1
    if evidence.settings.get("training.label_smoothing") == 0:
        settings["training.label_smoothing"] = 0.1
    return settings
