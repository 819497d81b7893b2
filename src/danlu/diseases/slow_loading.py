"""Steps that wait for their batches longer than they compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from danlu.diseases.diagnosis import Chart, Cure, Diagnosis
from danlu.diseases.evidence import TrainingEvidence, percent

HALF, SOME = 0.5, 0.3
WORTH_MILLISECONDS, WORTH_SECONDS = 5.0, 10.0  # a step, and in all
MUCH_MILLISECONDS = 15.0
PHASES = ("loading", "forward", "backward", "update")


def look(evidence: TrainingEvidence) -> Diagnosis | None:
    """The mean of the steps between those looked at; a few milliseconds that add up to nothing are not told."""
    rows = [row for row in evidence.watched if row.get("steps_timed")]
    if not rows:
        return None
    weights = np.array([row["steps_timed"] for row in rows], dtype=float)
    taken = {
        phase: float(np.average([row["milliseconds"][phase] for row in rows], weights=weights)) for phase in PHASES
    }
    total = sum(taken.values())
    share = taken["loading"] / max(total, 1e-9)
    waited = taken["loading"] * len(evidence.steps) / 1e3
    if share < SOME or (taken["loading"] < WORTH_MILLISECONDS and waited < WORTH_SECONDS):
        return None
    is_much = taken["loading"] >= MUCH_MILLISECONDS or waited >= WORTH_SECONDS
    settings: dict[str, Any] = {}
    if evidence.settings.get("data.cache") is False and not evidence.is_own:
        settings["data.cache"] = True
    elif isinstance(threads := evidence.settings.get("data.reader_threads"), int) and not evidence.is_own:
        settings["data.reader_threads"] = 2 * threads
    line = [
        (row["step"], 100 * row["milliseconds"]["loading"] / max(sum(row["milliseconds"].values()), 1e-9))
        for row in rows
    ]
    return Diagnosis(
        "slow_loading",
        f"{percent(share)} of the time of a step is spent waiting for its batch",
        tuple((phase, f"{milliseconds:.1f} ms a step") for phase, milliseconds in taken.items()),
        0.9 if share >= HALF and is_much else 0.6,
        Cure(
            "read ahead with `DataLoader(num_workers=…)`, or do less in `__getitem__`"
            if evidence.is_own
            else "decode once (`data.cache=true`), read with more threads, or make the files smaller",
            settings,
        ),
        Chart("step", "loading, % of a step", {"loading": line}),
    )
