"""Parameters that never change: frozen, unknown to the optimizer, or cut off from the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

REASONS = {
    "without_gradient": (
        "get no gradient",
        0.95,
        "look in `forward` for `detach()`, `no_grad()`, `.data`, numpy, or a layer that is never called",
    ),
    "not_in_optimizer": (
        "are unknown to the optimizer",
        0.95,
        "give the optimizer `model.parameters()`, after every layer is made",
    ),
    "frozen": (
        "are frozen (`requires_grad` is off)",
        0.85,
        "set `requires_grad_(True)` for them, or train so on purpose and only the head",
    ),
}
WORTH_SAYING, MOST = 0.01, 0.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """By the first step. A few frozen parameters may be meant; half of the model seldom is."""
    told = evidence.first.get("parameters", {})
    total = told.get("total", 0)
    found = [(kind, told[kind]) for kind in REASONS if total and told[kind]["numbers"] / total >= WORTH_SAYING]
    if not found:
        return _still(evidence)
    stuck = sum(group["numbers"] for _, group in found)
    kind, worst = max(found, key=lambda row: row[1]["numbers"])
    what, confidence, advice = REASONS[kind]
    share = stuck / total
    return Diagnosis(
        "frozen_parameters",
        f"{percent(share)} of the parameters never change: they {what}",
        (
            *((f"parameters that {REASONS[name][0]}", _counted(group)) for name, group in found),
            ("parameters in all", f"{total:,}"),
        ),
        confidence if share >= MOST or kind != "frozen" else 0.6,
        Cure(f"{advice}; first: `{worst['names'][0]}`"),
    )


def _still(evidence: TrainingEvidence) -> Diagnosis | None:
    """Layers whose gradient is zero whenever it was looked at, such as those behind weights that are all zero."""
    gradients = evidence.of_layers("gradient_norm")
    if not gradients.size or len(gradients) < 2:
        return None
    still = np.nan_to_num(gradients, nan=1.0).max(0) == 0
    if not still.any() or (evidence.of_layers("dead_share", evidence.activation_layers) > MOST).any():
        return None  # dead units are another disease
    names = [name for name, is_still in zip(evidence.weight_layers, still, strict=True) if is_still]
    return Diagnosis(
        "frozen_parameters",
        f"the gradient of {len(names):,} of {len(still):,} layers is exactly 0 in every step that was looked at",
        (("layers", ", ".join(names[:10])), ("steps looked at", f"{len(gradients):,}")),
        0.9,
        Cure(f"look at the first weights around `{names[0]}` (all zero?) and at what `forward` does with its output"),
    )


def _counted(group: dict[str, Any]) -> str:
    return f"{group['numbers']:,} ({', '.join(group['names'])})"
