"""Units that give the same output for every example, so that no gradient reaches what feeds them."""

from __future__ import annotations

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent, watched_line

MOST, MANY = 0.9, 0.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """By the layer of activations with most dead units, in the median of the steps looked at (Lu et al., 2019)."""
    names = evidence.activation_layers
    table = evidence.of_layers("dead_share", names)
    if not table.size or not np.isfinite(table).any():
        return None
    medians = np.array([np.nanmedian(column) if np.isfinite(column).any() else 0.0 for column in table.T])
    worst = int(medians.argmax())
    share = float(medians[worst])
    if share < MANY:
        return None
    layer = next(row for row in evidence.watched[0]["layers"] if row["name"] == names[worst])
    settings = {"model.batch_norm": True} if evidence.settings.get("model.batch_norm") is False else {}
    return Diagnosis(
        "dead_units",
        f"{percent(share)} of the units after `{names[worst]}` ({layer['kind']}) are dead: the same for every example",
        tuple((f"dead after `{name}`", percent(value)) for name, value in zip(names, medians, strict=True))[:6],
        0.95 if share >= MOST else 0.8,
        Cure(
            "look at the biases and first weights before it, lower the learning rate, or put batch norm before it",
            settings,
        ),
        Chart("step", "dead units, %", {names[worst]: watched_line(evidence, 100 * table[:, worst])}),
    )
