"""A class that a part has no example of: it cannot be learnt, or not be measured, there."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np

from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, counted, listed

Counts = dict[str, np.ndarray]  # part → examples of each class, or classes
SHOWN = 3


def look(evidence: DataEvidence) -> Finding | None:
    """An error where training lacks the class, or where danlu drew the parts and a class was too small to be dealt;
    a warning where the data itself states a validation or test part without it."""
    counts = {part: evidence.counts(part) for part in evidence.part_names()}
    missing = {part: np.flatnonzero(own == 0) for part, own in counts.items()}
    missing = {part: classes for part, classes in missing.items() if len(classes)}
    if not missing:
        return None
    is_error = any(part == "train" or part not in evidence.stated for part in missing)
    told = "; ".join(
        f"{counted(len(classes), 'class has', 'classes have')} no {part} example:"
        f" {listed(evidence.classes[i] for i in classes)}"
        for part, classes in missing.items()
    )
    cases = tuple(
        Case(
            _keys_of(evidence, i), f"class `{evidence.classes[i]}`: none in {part}{_renamed(evidence, counts, i, part)}"
        )
        for part, classes in missing.items()
        for i in classes.tolist()
    )
    return Finding("missing_class", "error" if is_error else "warning", told, _advice(evidence, counts, missing), cases)


def _advice(evidence: DataEvidence, counts: Counts, missing: Counts) -> str:
    lacking = missing.get("train", np.zeros(0, np.int64))[:SHOWN].tolist()
    twins = [(evidence.classes[i], twin) for i in lacking if (twin := _twin(evidence, counts, i, "train"))]
    if twins:
        renamed = ", ".join(f"`{name}` may be `{other}`" for name, other in twins)
        return f"{renamed} under another name: give a class the same name in all parts"
    if "train" in missing:
        return "a class must be learnt before it can be tested: check the names of the folders or labels"
    if any(part not in evidence.stated for part in missing):
        needed = counted(len(evidence.part_names()), "different example")
        return f"a class needs {needed}, one a part: add examples, merge or remove these classes"
    return "nothing is known of these classes there: add examples of them"


def _twin(evidence: DataEvidence, counts: Counts, label: int, part: str) -> str | None:
    """A class the part has and the parts of this class lack: perhaps the same one under another name."""
    elsewhere = [own for own in counts.values() if own[label]]
    lacking = np.logical_or.reduce([own == 0 for own in elsewhere]) if elsewhere else np.zeros(len(counts[part]), bool)
    candidates = [evidence.classes[i] for i in np.flatnonzero((counts[part] > 0) & lacking)]
    near = get_close_matches(evidence.classes[label], candidates, n=1, cutoff=0.5)
    if near:
        return near[0]
    return candidates[0] if len(candidates) == 1 else None


def _renamed(evidence: DataEvidence, counts: Counts, label: int, part: str) -> str:
    twin = _twin(evidence, counts, label, part)
    return f"; renamed from `{twin}`?" if twin else ""


def _keys_of(evidence: DataEvidence, label: int) -> tuple[str, ...]:
    return tuple(evidence.keys[i] for i in np.flatnonzero(evidence.labels == label)[:SHOWN])
