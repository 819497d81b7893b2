"""Dropout or batch norm that stay in eval mode while training."""

from __future__ import annotations

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Some layers may be put to rest on purpose, such as the batch norm of a pretrained backbone; hardly all."""
    resting = evidence.first.get("resting", {})
    count, of = resting.get("count", 0), resting.get("of", 0)
    if not count:
        return None
    return Diagnosis(
        "eval_mode",
        f"{count:,} of {of:,} layers that behave differently in training stay in eval mode: dropout drops nothing and"
        " batch norm keeps its first statistics",
        (("layers in eval mode", f"{count:,} of {of:,}"), ("which", ", ".join(resting["names"]))),
        0.95 if count == of else 0.6,
        Cure("call `model.train()` before the epoch, and do not override `train` without passing its mode on"),
    )
