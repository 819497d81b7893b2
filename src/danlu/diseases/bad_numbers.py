"""NaN or infinite numbers in the inputs: every weight is NaN one step later."""

from __future__ import annotations

import numpy as np

from danlu.diseases.diagnosis import Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, short


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """From the batch that ended the training, or the first one; also a model whose first scores are no numbers,
    and a validation loss that never is one.
    """
    inputs, scores = evidence.first.get("inputs", {}), evidence.first.get("scores", {})
    failed = (evidence.failure or {}).get("facts") or {}
    if not {"bad_examples", "examples", "epoch", "batch"} <= set(failed):
        failed = {}
    bad = failed.get("bad_examples") or inputs.get("bad_examples") or 0
    advice = "find them with `numpy.isfinite(array).all()` where the data is made, and mend or leave out the examples"
    if bad:
        examples = failed.get("examples") or inputs.get("examples")
        where = f"batch {failed['batch'] + 1:,} of epoch {failed['epoch'] + 1}" if failed else "the first batch"
        return Diagnosis(
            "bad_numbers",
            f"{where} holds NaN or infinite numbers in {bad:,} of its {examples:,} examples",
            (("examples with such numbers", f"{bad:,} of {examples:,}"), ("where", where)),
            1.0,
            Cure(advice),
        )
    if scores.get("bad"):
        return Diagnosis(
            "bad_numbers",
            f"the model's first scores hold {scores['bad']:,} NaN or infinite numbers, although its inputs hold none",
            (("scores that are no numbers", f"{scores['bad']:,}"),),
            0.95,
            Cure("look for a division by zero, a logarithm of 0 or an overflow in `forward`, and at the first weights"),
        )
    trained, validated = evidence.curve("train_loss"), evidence.curve("validation_loss")
    if len(validated) and np.isnan(validated).all() and np.isfinite(trained).all():
        return Diagnosis(
            "bad_numbers",
            "the validation loss is no number in any epoch, while the train loss is one: so it is with NaN or infinite"
            " numbers in the validation inputs",
            (("epochs without a validation loss", f"{len(validated):,}"), ("last train loss", short(trained[-1]))),
            0.9,
            Cure(advice),
        )
    return None
