"""Labels that have nothing to do with the inputs, such as two lists put together in different orders."""

from __future__ import annotations

import math

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, epoch_line, percent

BY_HEART = 0.1


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Train examples are learnt by heart, while others are answered as if by chance (Zhang et al., 2017)."""
    train, best = evidence.train_accuracy, evidence.validation_accuracy
    if not evidence.learns_nothing or not math.isfinite(train) or not math.isfinite(best):
        return None
    if train - evidence.chance < BY_HEART:
        return None
    lines = {
        "train": epoch_line(evidence, "train_accuracy", 100),
        "validation": epoch_line(evidence, "validation_accuracy", 100),
    }
    return Diagnosis(
        "shuffled_labels",
        f"train examples are learnt ({percent(train)}) while validation stays at chance ({percent(best)} at best,"
        f" chance is {percent(evidence.chance)}): labels look unrelated to the inputs",
        (
            ("train accuracy", percent(train)),
            ("best validation accuracy", percent(best)),
            ("chance", f"{percent(evidence.chance)} ± {percent(evidence.chance_error)}"),
        ),
        0.9 if train - evidence.chance >= 2 * BY_HEART else 0.8,
        Cure("look at examples with their labels: were two lists sorted differently?", command="inspect DATA --labels"),
        Chart("epoch", "accuracy, %", lines, {"chance": 100 * evidence.chance}),
    )
