"""All diseases asked of one training."""

from __future__ import annotations

from danlu.diseases import DISEASES
from danlu.diseases.diagnosis import Diagnosis, surest_first
from danlu.diseases.evidence import TrainingEvidence


def examine(evidence: TrainingEvidence) -> tuple[Diagnosis, ...]:
    """Every disease asked, the surest answer first.

    >>> examine(TrainingEvidence())
    ()
    """
    answers = (DISEASES.load(name)(evidence) for name in DISEASES.names())
    return surest_first(answer for answer in answers if answer is not None)
