"""All inputs are alike, so no answer can depend on them."""

from __future__ import annotations

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

ALIKE, SOME = 0.9, 0.5
VARYING = 0.01
FEWEST = 8


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    inputs = evidence.first.get("inputs", {})
    examples = inputs.get("examples", 0)
    if examples < FEWEST or "alike" not in inputs:
        return None
    alike, varying = inputs["alike"] / examples, inputs["varying"]
    if alike < SOME and varying > VARYING:
        return None
    return Diagnosis(
        "constant_input",
        f"{inputs['alike']:,} of the {examples:,} inputs of the first batch are the same",
        (("inputs that are equal", percent(alike)), ("positions at which any two differ", percent(varying))),
        0.95 if alike >= ALIKE else 0.6,
        Cure(
            "look at what is read: the same file again and again, an empty picture, a column that is not the text",
            command="inspect DATA",
        ),
    )
