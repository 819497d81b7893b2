"""Parameters that never change: frozen, unknown to the optimizer, or cut off from the loss."""

from __future__ import annotations

import numpy as np

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent, short

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
        "set `requires_grad_(True)` for them, unless only the head is meant to learn",
    ),
}
WORTH_SAYING, MOST = 0.01, 0.5


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """By the first step. What is frozen may be meant, and is where the result is good; a layer that is never called
    does no harm.
    """
    told = evidence.first.get("parameters", {})
    total, uncalled = told.get("total", 0), _never_called(evidence)
    counts = {kind: told[kind]["numbers"] for kind in REASONS} if total else {}
    if counts:
        counts["without_gradient"] = max(0, counts["without_gradient"] - sum(uncalled.values()))
    found = [kind for kind, count in counts.items() if count / total >= WORTH_SAYING]
    if not found:
        return _still(evidence) or _uncalled(uncalled, total)
    stuck = sum(counts[kind] for kind in found)
    kind = max(found, key=lambda one: counts[one])
    what, confidence, advice = REASONS[kind]
    share = stuck / total
    is_meant = kind == "frozen" and (share < MOST or evidence.validation_accuracy > evidence.half_way)
    return Diagnosis(
        "frozen_parameters",
        f"{percent(share)} of the parameters never change: they {what}",
        (
            *((f"parameters that {REASONS[name][0]}", _counted(counts[name], told[name]["names"])) for name in found),
            ("parameters in all", f"{total:,}"),
        ),
        0.6 if is_meant else confidence,
        Cure(f"{advice}; first: `{told[kind]['names'][0]}`"),
    )


def _never_called(evidence: TrainingEvidence) -> dict[str, int]:
    """Layer → its parameters, of those with neither output nor gradient in the first step."""
    layers = evidence.watched[0]["layers"] if evidence.watched else ()
    if all(row["activation_mean"] is None for row in layers):
        return {}  # nothing was heard, as of a compiled model
    return {
        row["name"]: row["parameters"]
        for row in layers
        if row["parameters"] and row["activation_mean"] is None and row["gradient_norm"] is None
    }


def _uncalled(uncalled: dict[str, int], total: int) -> Diagnosis | None:
    count = sum(uncalled.values())
    if not total or count / total < WORTH_SAYING:
        return None
    return Diagnosis(
        "frozen_parameters",
        f"{percent(count / total)} of the parameters belong to layers that `forward` never calls",
        (("layers", ", ".join(list(uncalled)[:10])), ("their parameters", f"{count:,} of {total:,}")),
        0.6,
        Cure(f"call them, or leave them out if they are not needed; first: `{next(iter(uncalled))}`"),
    )


def _still(evidence: TrainingEvidence) -> Diagnosis | None:
    """Layers whose gradient is zero whenever it was looked at, such as those behind weights that are all zero."""
    gradients = evidence.of_layers("gradient_norm")
    if not gradients.size or len(gradients) < 2:
        return None
    changes = evidence.of_layers("update_ratio")
    if np.nanmax(gradients, initial=0.0) > 0 and np.nanmax(changes, initial=0.0) == 0 and np.isfinite(changes).any():
        return Diagnosis(
            "frozen_parameters",
            "no weight changes in any step that was looked at, although gradients are there",
            (
                ("learning rate", short(evidence.learning_rate)),
                ("largest gradient norm of a layer", short(float(np.nanmax(gradients)))),
                ("steps looked at", f"{len(gradients):,}"),
            ),
            0.95,
            Cure("raise the learning rate, if such changes are lost in rounding; else look at the optimizer's `step`"),
        )
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


def _counted(count: int, names: list[str]) -> str:
    return f"{count:,} ({', '.join(names)})"
