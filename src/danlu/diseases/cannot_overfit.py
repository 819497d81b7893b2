"""A model that cannot even learn one small batch by heart: it, its loss or its labels are broken."""

from __future__ import annotations

import math

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent, short


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """By a probe that had the time for it (Karpathy, 2019: over-fit a single batch)."""
    told = evidence.overfit
    if not told or told["reached"] or told["ran_out"]:
        return None
    losses = [math.nan if loss is None else loss for loss in told["losses"]]
    first, last = (short(loss) if math.isfinite(loss) else "no number" for loss in (losses[0], losses[-1]))
    right = f", {percent(told['accuracies'][-1])} right" if told["accuracies"] else ""
    return Diagnosis(
        "cannot_overfit",
        f"the model cannot learn {told['examples']} examples by heart ({told['stop_reason']}: loss {first} →"
        f" {last}{right}): it, its loss or the labels are broken",
        (
            ("examples", f"{told['examples']}"),
            ("steps", f"{told['steps']:,}"),
            ("loss, first → last", f"{first} → {last}"),
        ),
        0.9,
        Cure("look at the findings above it, at `forward`, at the loss and at the labels of the batch"),
        Chart(
            "step",
            "loss of the batch",
            {"loss": [(step, loss) for step, loss in enumerate(losses) if math.isfinite(loss)]},
        ),
    )
