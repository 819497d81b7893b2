"""Softmax in the model, and again in the loss: gradients become small and the loss cannot come near 0."""

from __future__ import annotations

import math

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, short


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Scores that are probabilities, given to a cross entropy, which takes their softmax itself."""
    scores = evidence.first.get("scores", {})
    if not scores.get("is_cross_entropy", False) or not scores.get("lie_between_0_and_1"):
        return None
    is_softmax = scores["are_probabilities"]
    classes = evidence.num_classes
    lowest = math.log(math.e + classes - 1) - 1
    what = "rows add up to 1" if is_softmax else "all lie between 0 and 1"
    return Diagnosis(
        "softmax_before_loss",
        f"the model's scores are already {'probabilities' if is_softmax else 'squeezed to 0 to 1'} ({what}), and the"
        " cross entropy takes their softmax again",
        (
            ("scores of the first batch", what),
            ("lowest loss that is then possible", short(lowest)),
            ("loss at the end", short(evidence.last_loss)),
        ),
        0.97 if is_softmax else 0.85,
        Cure("let the model end with its last linear layer: cross entropy wants raw scores"),
        Chart("step", "loss", {"loss": loss_line(evidence)}, {"lowest possible": lowest}),
    )
