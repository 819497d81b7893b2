"""Softmax or sigmoid in the model, and again in the loss: gradients become small, the loss cannot come near 0."""

from __future__ import annotations

import math

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, loss_line, short

REACHED = 0.95


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Scores that are probabilities, given to a loss that takes their softmax or sigmoid itself, or their logarithm for
    granted; a loss below what is then possible clears a model whose first scores only look like it.
    """
    scores = evidence.first.get("scores", {})
    is_softmax, is_squeezed = scores.get("are_probabilities", False), scores.get("lie_between_0_and_1", False)
    if scores.get("is_negative_score") and is_softmax:
        return _without_logarithm(evidence)
    is_binary = scores.get("is_binary_cross_entropy", False)
    if not (scores.get("is_cross_entropy") or is_binary) or not (is_softmax or is_squeezed):
        return None
    # Scores of 1 for what is right and 0 for the others; of yes or no, all yes.
    lowest = math.log1p(math.exp(-1)) if is_binary else math.log(math.e + evidence.num_classes - 1) - 1
    if not is_softmax and evidence.last_loss < REACHED * lowest:
        return None
    what = "rows add up to 1" if is_softmax else "all lie between 0 and 1"
    taken = "binary cross entropy takes their sigmoid" if is_binary else "cross entropy takes their softmax"
    return Diagnosis(
        "softmax_before_loss",
        f"the model's scores are already {'probabilities' if is_softmax else 'squeezed to 0 to 1'} ({what}), and the"
        f" {taken} again",
        (
            ("scores of the first batch", what),
            ("lowest loss that is then possible", short(lowest)),
            ("loss at the end", short(evidence.last_loss)),
        ),
        0.97 if is_softmax else 0.85,
        Cure(
            "let the model end with its last linear layer: "
            + ("`nn.BCEWithLogitsLoss` wants raw scores" if is_binary else "cross entropy wants raw scores")
        ),
        Chart("step", "loss", {"loss": loss_line(evidence)}, {"lowest possible": lowest}),
    )


def _without_logarithm(evidence: TrainingEvidence) -> Diagnosis:
    """`nn.NLLLoss` after softmax: minus the probability itself, whose gradients are small where answers are wrong."""
    return Diagnosis(
        "softmax_before_loss",
        "the model's scores are probabilities, and the loss (`nn.NLLLoss`) expects their logarithm: it is below 0",
        (
            ("scores of the first batch", "rows add up to 1"),
            ("loss, first → last", f"{short(evidence.first_loss)} → {short(evidence.last_loss)}"),
        ),
        0.95,
        Cure("end the model with `nn.LogSoftmax(1)`, or with raw scores and `nn.CrossEntropyLoss`"),
        Chart("step", "loss", {"loss": loss_line(evidence)}),
    )
