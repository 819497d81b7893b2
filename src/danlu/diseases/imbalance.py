"""A class so rare that the model does better by overlooking it."""

from __future__ import annotations

import numpy as np

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

RATIO, LARGE_RATIO = 4.0, 10.0
WORSE = 0.75
ENOUGH = 10  # examples of the rare class, to learn from as many of the others


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """By the train part, and by how much less often the rare class is recognised in validation."""
    counts = np.array(evidence.counts.get("train", ()), dtype=float)
    there = np.flatnonzero(counts)
    if len(there) < 2:
        return None
    rare, frequent = int(there[counts[there].argmin()]), int(counts.argmax())
    ratio = counts[frequent] / counts[rare]
    is_met = (
        evidence.settings.get("training.class_weights") == "balanced"
        or evidence.settings.get("training.sampling") in ("balanced", "undersample")
        or evidence.settings.get("training.loss") == "focal"
    )
    if ratio < RATIO or is_met:
        return None
    recalls = evidence.validation.recalls if evidence.validation is not None else {}
    rare_recall, other = recalls.get(rare), recalls.get(frequent)
    suffers = rare_recall is not None and other is not None and rare_recall < WORSE * other
    if not suffers and ratio < LARGE_RATIO:
        return None
    names = [evidence.classes[i] if i < len(evidence.classes) else str(i) for i in (frequent, rare)]
    rows = [(f"train examples of `{names[0]}`", f"{counts[frequent]:,.0f}")]
    rows.append((f"train examples of `{names[1]}`", f"{counts[rare]:,.0f}"))
    if rare_recall is not None and other is not None:
        rows += [(f"recall of `{names[0]}`", percent(other)), (f"recall of `{names[1]}`", percent(rare_recall))]
    told = f", of which {percent(rare_recall)} are recognised" if suffers and rare_recall is not None else ""
    return Diagnosis(
        "imbalance",
        f"`{names[0]}` has {ratio:.1f} times the train examples of `{names[1]}`{told}",
        tuple(rows),
        0.9 if suffers and ratio >= RATIO else 0.5,
        Cure(
            "draw the classes equally often, or weigh them; judge by macro recall, not by accuracy",
            {"training.sampling": "undersample"}
            if ratio >= LARGE_RATIO and counts[rare] >= ENOUGH
            else {"training.class_weights": "balanced"},
        ),
    )
