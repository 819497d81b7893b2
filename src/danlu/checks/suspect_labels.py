"""Labels that models trained on the other examples contradict."""

from __future__ import annotations

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted


def look(evidence: DataEvidence) -> Finding | None:
    """Silent without cross-validated probabilities; the least believable label comes first."""
    probabilities = evidence.label_probabilities
    if probabilities is None or not len(evidence.suspects):
        return None
    answers = probabilities.argmax(1)
    judged = np.isfinite(probabilities).all(1)
    accuracy = float((answers == evidence.labels)[judged].mean())
    cases = tuple(
        Case(
            (evidence.keys[i],),
            f"{evidence.name(i)} ({probabilities[i, evidence.labels[i]]:.1%});"
            f" the model says {evidence.classes[answers[i]]} ({probabilities[i, answers[i]]:.1%})",
        )
        for i in evidence.suspects
    )
    share = len(cases) / len(evidence.keys)
    return Finding(
        "suspect_labels",
        "warning",
        f"{counted(len(cases), 'label is', 'labels are')} suspect ({share:.2%} of the examples), found by models that"
        f" are right on {accuracy:.1%} of examples they have not seen",
        "look at them from the top; where the model is weak many are right",
        cases,
    )
