"""Inputs that were not scaled: pixels of 0 to 255, or divided by 255 twice."""

from __future__ import annotations

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, short

FAR, VERY_FAR = 3.0, 8.0
NARROW = 0.02
ITS_OWN = (0.2, 2.0)  # standard deviations after a first layer with usual weights
NORMS = ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm")


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """First weights are made for inputs of mean 0 and deviation 1 (He et al., 2015); up to 3 is harmless."""
    inputs = evidence.first.get("inputs", {})
    if inputs.get("kind") != "numbers" or "std" not in inputs:
        return None
    mean, std = inputs["mean"], inputs["std"]
    size = max(abs(mean), std)
    is_narrow = 0 < std < NARROW and abs(mean) < 1
    if (size < FAR and not is_narrow) or _scales_itself(evidence):
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


def _scales_itself(evidence: TrainingEvidence) -> bool:
    """Whether the model begins with a norm, or its first layer answers as to scaled inputs: it may divide by 255."""
    layers = [row for row in (evidence.watched[0]["layers"] if evidence.watched else ()) if row["parameters"]]
    if not layers:
        return False
    spread = layers[0].get("activation_std")
    return layers[0]["kind"] in NORMS or (spread is not None and ITS_OWN[0] < spread < ITS_OWN[1])
