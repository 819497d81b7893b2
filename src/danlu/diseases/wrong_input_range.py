"""Inputs that were not scaled: pixels of 0 to 255, or divided by 255 twice."""

from __future__ import annotations

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, short

FAR, VERY_FAR = 3.0, 8.0
NARROW = 0.02


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """First weights are made for inputs of mean 0 and deviation 1 (He et al., 2015); up to 3 is harmless."""
    inputs = evidence.first.get("inputs", {})
    if inputs.get("kind") != "numbers" or "std" not in inputs:
        return None
    mean, std = inputs["mean"], inputs["std"]
    size = max(abs(mean), std)
    is_narrow = 0 < std < NARROW and abs(mean) < 1
    if size < FAR and not is_narrow:
        return None
    what = "too small" if is_narrow else "not scaled"
    return Diagnosis(
        "wrong_input_range",
        f"the inputs are {what}: from {short(inputs['lowest'])} to {short(inputs['highest'])}, where a mean near 0 and"
        " a standard deviation near 1 are expected",
        (
            ("mean", short(mean)),
            ("standard deviation", short(std)),
            ("lowest", short(inputs["lowest"])),
            ("highest", short(inputs["highest"])),
        ),
        0.9 if is_narrow or size >= VERY_FAR else 0.6,
        Cure("subtract the train mean and divide by the train standard deviation, once; danlu's own sources do"),
    )
