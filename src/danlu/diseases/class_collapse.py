"""Nearly always the same answer, whatever the input."""

from __future__ import annotations

import numpy as np

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

NEARLY_ALWAYS = 0.95
MORE_THAN_THERE = 0.1
NO_BETTER = 1.2
UNEVEN = 2.0
HALF = 0.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """One class answered in 95 % of cases, or far more often than it is there, and a low macro recall."""
    told = evidence.validation
    if told is None or not len(told.labels):
        return None
    answered = np.bincount(told.answers, minlength=told.num_classes) / len(told.answers)
    there = np.bincount(told.labels, minlength=told.num_classes) / len(told.labels)
    most = int(answered.argmax())
    present = np.flatnonzero(there)
    never = [int(label) for label in present if answered[label] == 0]
    collapsed = answered[most] >= NEARLY_ALWAYS and len(never) > 0
    collapsed = collapsed or answered[most] - there[most] >= max(MORE_THAN_THERE, 0.5 * (1 - there[most]))
    is_no_better = told.macro_recall <= NO_BETTER / max(2, len(present)) + 0.1
    if not collapsed or (not is_no_better and told.macro_recall > HALF):
        return None
    name = evidence.classes[most] if most < len(evidence.classes) else str(most)
    counts = [count for count in evidence.counts.get("train", ()) if count]
    is_uneven = bool(counts) and max(counts) > UNEVEN * min(counts)
    is_met = evidence.settings.get("training.class_weights") == "balanced"
    settings = {"training.class_weights": "balanced"} if is_uneven and not is_met else {}
    return Diagnosis(
        "class_collapse",
        f"`{name}` is answered to {percent(float(answered[most]))} of the validation examples; it is right for"
        f" {percent(float(there[most]))}",
        (
            ("classes never answered", f"{len(never)} of {len(present)}"),
            ("mean recall of the classes", percent(told.macro_recall)),
            ("of guessing", percent(1 / max(2, len(present)))),
        ),
        0.85 if is_no_better else 0.6,
        Cure(
            "weigh the classes, since one is frequent"
            if settings
            else "look for why nothing is learnt (`danlu probe`)"
            if is_no_better
            else "look at how often the classes are drawn, and at their weights in the loss",
            settings,
            command=None if settings else "probe DATA",
        ),
    )
