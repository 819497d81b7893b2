"""Labels that have nothing to do with the inputs, such as two lists put together in different orders."""

from __future__ import annotations

import math

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, epoch_line, percent

SOMEWHAT, BY_HEART = 0.05, 0.1


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Train examples are learnt by heart, while others are answered as if by chance (Zhang et al., 2017)."""
    train, best = evidence.train_accuracy, evidence.validation_accuracy
    if not math.isfinite(train) or not math.isfinite(best):
        return None
    last = float(evidence.curve("validation_accuracy")[-1])
    chance, error = evidence.chance, evidence.chance_error
    # The best of many epochs is lucky: 5 errors above chance, once, is luck where the last epoch is at chance.
    at_chance = last <= chance + max(0.02, 3 * error) and best <= chance + max(0.05, 5 * error)
    above = train - chance
    if not at_chance or above < SOMEWHAT or train - last < SOMEWHAT:
        return None
    lines = {
        "train": epoch_line(evidence, "train_accuracy", 100),
        "validation": epoch_line(evidence, "validation_accuracy", 100),
    }
    return Diagnosis(
        "shuffled_labels",
        f"train examples are learnt ({percent(train)}) while validation is no better than chance ({percent(last)}"
        f" at the end, chance is {percent(chance)}): labels look unrelated to the inputs",
        (
            ("train accuracy", percent(train)),
            ("best validation accuracy", percent(best)),
            ("chance", f"{percent(chance)} ± {percent(error)}"),
        ),
        0.6 if above < BY_HEART or not evidence.learns_nothing else 0.8 if above < 2 * BY_HEART else 0.9,
        Cure("look at examples with their labels: were two lists sorted differently?", command="inspect DATA --labels"),
        Chart("epoch", "accuracy, %", lines, {"chance": 100 * evidence.chance}),
    )
