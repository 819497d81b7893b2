"""Examples of the validation or test part that the model was trained on."""

from __future__ import annotations

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

MUCH, SOME = 0.02, 0.002


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    part, share = max(evidence.leaked.items(), key=lambda row: row[1], default=("", 0.0))
    if share < SOME:
        return None
    return Diagnosis(
        "leaking_data",
        f"{percent(share)} of the {part} part stand in the train part too: its score is that of examples known by"
        " heart",
        tuple((f"of {name} also in train", percent(value)) for name, value in evidence.leaked.items()),
        0.95 if share >= MUCH else 0.6,
        Cure("leave them out of the train part; the score falls to what it is worth", {"data.leaks": "drop"}),
    )
