"""Many wrong labels: even the surest answers are contradicted as often as the others."""

from __future__ import annotations

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

FLAT, FLATTISH = 0.7, 0.5
FEWEST_ERRORS = 15
WORTH_SAYING = 0.08
BEHIND, BY_HEART = 0.15, 0.2
NEAR, SURELY_NEAR = 0.15, 0.05  # below half-way by more, answers are wrong for other reasons


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """Where labels are right, the surest answers have far fewer errors than all; labels wrong at random contradict sure
    answers and unsure ones alike. Asked of the surer half and of the surest fifth: of a hard task, the half may have
    as many errors as all.
    """
    told = evidence.validation
    if told is None or told.accuracy < evidence.half_way - NEAR:
        return None
    if evidence.train_accuracy < told.accuracy - BEHIND:
        return None  # not learnt far enough to judge labels by
    error = 1 - told.accuracy
    if error < WORTH_SAYING or error * len(told.labels) < FEWEST_ERRORS:
        return None
    surest = told.error_of_surest(0.5)
    ratio = min(surest, told.error_of_surest(0.2)) / error
    if ratio < FLATTISH:
        return None
    is_learnt = told.accuracy >= evidence.half_way - SURELY_NEAR
    is_sure = ratio >= FLAT and is_learnt and evidence.train_accuracy - told.accuracy < BY_HEART
    shares = [share / 20 for share in range(2, 21)]
    line = [(100 * share, 100 * told.error_of_surest(share)) for share in shares]
    return Diagnosis(
        "noisy_labels",
        f"even of the surer half of the answers {percent(surest)} are contradicted by the label, of all"
        f" {percent(error)}: up to that many labels may be wrong",
        (
            ("errors of all answers", percent(error)),
            ("errors of the surer half", percent(surest)),
            ("errors of the surest fifth", percent(told.error_of_surest(0.2))),
            ("the smaller of the two ÷ that of all, near 1 where labels are wrong at random", f"{ratio:.2f}"),
        ),
        0.85 if is_sure else 0.55,
        Cure("look at the labels that models contradict, and mend them", command="inspect DATA --labels"),
        Chart("share of the answers, the surest first, %", "contradicted, %", {"validation": line}),
    )
