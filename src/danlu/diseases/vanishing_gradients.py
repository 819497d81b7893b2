"""Gradients that shrink from layer to layer on their way back, so that early layers do not learn."""

from __future__ import annotations

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, short, watched_line

TINY, SMALL = 1e-4, 1e-3
DEEP = 8
SQUEEZING = ("sigmoid", "tanh")


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Gradient ÷ weight of the first layer against the last, the median of the steps (Glorot and Bengio, 2010)."""
    gradients, weights = evidence.of_layers("gradient_norm"), evidence.of_layers("weight_norm")
    if gradients.size == 0 or gradients.shape[1] < 3:
        return None
    relative = gradients / np.maximum(weights, 1e-12)
    usable = np.isfinite(relative) & (relative > 0)
    rows = usable[:, 0] & usable[:, -1]
    if not rows.any():
        return None
    ratio = relative[:, 0] / np.maximum(relative[:, -1], 1e-30)
    middle = float(np.median(ratio[rows]))
    if middle > SMALL:
        return None
    settings: dict[str, object] = {}
    if evidence.settings.get("model.activation") in SQUEEZING:
        settings["model.activation"] = "relu"
    dropout = evidence.settings.get("model.dropout")
    if gradients.shape[1] >= DEEP and isinstance(dropout, (int, float)) and dropout > 0:
        settings["model.dropout"] = 0  # dropping something in each of so many layers leaves nothing to learn from
    if not settings and evidence.settings.get("model.batch_norm") is False:
        settings["model.batch_norm"] = True
    first, last = evidence.weight_layers[0], evidence.weight_layers[-1]
    return Diagnosis(
        "vanishing_gradients",
        f"the gradient of the first layer is {short(middle)} of the last one's: it vanishes on its way back through"
        f" {gradients.shape[1]} layers",
        (
            (f"gradient ÷ weight of `{first}`", short(float(np.median(relative[rows, 0])))),
            (f"gradient ÷ weight of `{last}`", short(float(np.median(relative[rows, -1])))),
            ("layers with weights", f"{gradients.shape[1]}"),
        ),
        0.9 if middle <= TINY else 0.6,
        Cure("use ReLU instead of sigmoid or tanh, batch norm between the layers, or fewer layers", settings),
        Chart("step", "first ÷ last layer", {"gradient ÷ weight": watched_line(evidence, ratio)}, log=True),
    )
