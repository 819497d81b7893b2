"""Units that give the same output for every example, so that no gradient reaches what feeds them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent, watched_line

MOST, MANY = 0.9, 0.5
FAR = 10.0


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """By the layer of activations with most dead units, in the median of the steps looked at (Lu et al., 2019).

    A unit that answers to few inputs looks dead in a small batch: half of a wide layer may, in a training that goes
    well.
    """
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
    at_first = float(table[0, worst])
    died = at_first < 0.5 * share  # so it is not the first weights' doing
    settings: dict[str, Any] = {}
    if died and evidence.learning_rate > FAR * evidence.usual_setting("training.learning_rate"):
        settings["training.learning_rate"] = "auto"
    elif evidence.settings.get("model.batch_norm") is False:
        settings["model.batch_norm"] = True
    hurts = evidence.learns_nothing or evidence.has_fallen_back
    others = sorted(zip(medians.tolist(), names, strict=True), reverse=True)[:6]
    return Diagnosis(
        "dead_units",
        f"{percent(share)} of the units after `{names[worst]}` ({layer['kind']}) are dead: the same for every example"
        " of a batch",
        (
            ("at the first step", "not looked at" if math.isnan(at_first) else percent(at_first)),
            *((f"dead after `{name}`", percent(value)) for value, name in others),
        ),
        0.95 if share >= MOST else 0.8 if hurts else 0.6,
        Cure(
            "lower the learning rate, which killed them, or put batch norm before it"
            if died
            else "look at the biases and first weights before it, and at its inputs, or put batch norm before it",
            settings,
        ),
        Chart("step", "dead units, %", {names[worst]: watched_line(evidence, 100 * table[:, worst])}),
    )
