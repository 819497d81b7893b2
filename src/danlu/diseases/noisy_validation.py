"""A validation score that is mostly chance: too few examples to choose an epoch or a setting by."""

from __future__ import annotations

import math

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, epoch_line, percent

VAGUE, VERY_VAGUE = 0.05, 0.08
FEW, VERY_FEW = 50, 30


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """The standard error of the best accuracy on so many examples."""
    count, best = evidence.validation_size, evidence.validation_accuracy
    if not count or not math.isfinite(best):
        return None
    share = min(max(best, 1 / (count + 2)), 1 - 1 / (count + 2))  # 12 of 12 right is not certainty
    error = math.sqrt(share * (1 - share) / count)
    if error < VAGUE and count >= FEW:
        return None
    shares = evidence.settings.get("data.split")
    settings = {}
    if not evidence.states_parts and isinstance(shares, (list, tuple)) and shares[1] < 0.2:
        settings["data.split"] = [0.6, 0.2, 0.2]
    swings = np.abs(np.diff(evidence.curve("validation_accuracy")))
    return Diagnosis(
        "noisy_validation",
        f"the validation part has {count:,} examples: its accuracy, which chooses the kept epoch, is known"
        f" to ± {196 * error:.1f} points only",
        (
            ("validation examples", f"{count:,}"),
            ("standard error of the accuracy", percent(error)),
            ("mean change from epoch to epoch", percent(float(swings.mean())) if len(swings) else "one epoch"),
        ),
        0.85 if error >= VERY_VAGUE or count < VERY_FEW else 0.6,
        Cure("give the validation part more examples", settings),
        Chart("epoch", "validation accuracy, %", {"validation": epoch_line(evidence, "validation_accuracy", 100)}),
    )
