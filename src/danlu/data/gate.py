"""The data gate: what is wrong with prepared data, told before a training starts and stopping it where it must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danlu.base.errors import DataError
from danlu.base.files import write_sealed_json
from danlu.base.runs import Run
from danlu.checks import CHECKS
from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, worst_first
from danlu.data.near_images import grey_thumbnails, near_image_pairs
from danlu.data.near_texts import near_text_pairs
from danlu.data.outliers import unusual_images, unusual_texts
from danlu.data.prepare import PreparedData
from danlu.data.split import DROPPED
from danlu.sources.examples import PARTS

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

CASES_IN_A_RUN = 1000
OFF = "the data gate was off (`data.gate=off`): nothing but unreadable examples was looked for"


def gather_evidence(prepared: PreparedData, settings: DataSettings) -> DataEvidence:
    """The facts the checks look at, of all examples that are in a part. Near copies and outliers are measured here."""
    evidence, used = _examples_in_parts(prepared, settings)
    contents: dict[str, int] = {}
    numbers = [contents.setdefault(row.sha256, len(contents)) for row in prepared.manifest]
    copies = np.array(numbers, dtype=np.int64)[used]
    if prepared.kind == "images":
        thumbnails = np.empty((len(prepared.examples), 256), dtype=np.float32)
        for part in prepared.parts.values():
            thumbnails[part.indices] = grey_thumbnails(part.inputs)
        looks = thumbnails[used]
        pairs, unusual = _known_pairs(prepared, used), unusual_images(looks)
        pairs = near_image_pairs(looks) if pairs is None else pairs
    else:
        texts = [str(prepared.examples.items[i]) for i in used]
        pairs, unusual = _known_pairs(prepared, used), unusual_texts(texts)
        pairs = near_text_pairs(texts) if pairs is None else pairs
    return replace(
        evidence,
        copies=copies,
        near_pairs=_of_all_copies(pairs[copies[pairs[:, 0]] != copies[pairs[:, 1]]], copies, evidence.parts),
        unusual=tuple(unusual),
    )


def _of_all_copies(pairs: np.ndarray, copies: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The pairs, and those of their equal copies in other parts: the search looks at the first of equal texts only."""
    found = [pairs]
    firsts = []
    for part in PARTS:
        first = np.full(int(copies.max(initial=-1)) + 1, -1)
        own = np.flatnonzero(parts == part)[::-1]
        first[copies[own]] = own  # of several the last one written counts: the first in the part
        firsts.append(first)
    for one, other in product(firsts, firsts):
        both = np.stack([one[copies[pairs[:, 0]]], other[copies[pairs[:, 1]]]], axis=1)
        both = both[(both >= 0).all(1)]
        found.append(both[parts[both[:, 0]] != parts[both[:, 1]]])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _known_pairs(prepared: PreparedData, used: np.ndarray) -> np.ndarray | None:
    """The near pairs the split looked for, as places among the used examples."""
    if prepared.near_pairs is None:
        return None
    place = np.full(len(prepared.examples), -1)
    place[used] = np.arange(len(used))
    pairs = place[prepared.near_pairs]
    known: np.ndarray = pairs[(pairs >= 0).all(1)]
    return known


def _examples_in_parts(prepared: PreparedData, settings: DataSettings) -> tuple[DataEvidence, np.ndarray]:
    """Which examples are in which part and which cannot be read, and no more; and the places of the former."""
    examples = prepared.examples
    parts = np.array([row.part for row in prepared.manifest], dtype=object)
    used = np.flatnonzero(parts != DROPPED)
    evidence = DataEvidence(
        kind=examples.kind,
        classes=examples.classes,
        keys=tuple(examples.keys[i] for i in used),
        labels=examples.labels[used],
        parts=parts[used],
        stated=(stated := frozenset(part for part in examples.parts if part)),
        expected=tuple(part for part, share in zip(PARTS, settings.split, strict=True) if share > 0 or part in stated),
        copies=np.arange(len(used)),
        unreadable=tuple(Case((problem.key,), problem.reason) for problem in examples.problems),
        skips_unreadable=settings.unreadable == "skip",
    )
    return evidence, used


def run_checks(evidence: DataEvidence) -> tuple[Finding, ...]:
    """All findings, worst first; a check that raises is a mistake of danlu's and is not hidden."""
    found: list[Finding | None] = [CHECKS.load(name)(evidence) for name in CHECKS.names()]
    return worst_first(finding for finding in found if finding is not None)


def pass_gate(data: str | Path, prepared: PreparedData, settings: DataSettings) -> tuple[Finding, ...]:
    """The findings on data that may be trained on. Raises `DataError` with all errors at once.

    With `data.gate=off` only unreadable examples are looked at, which `data.unreadable` decides on.
    """
    if settings.gate == "off":
        unreadable: Finding | None = CHECKS.load("unreadable")(_examples_in_parts(prepared, settings)[0])
        findings: tuple[Finding, ...] = (unreadable,) if unreadable else ()
    else:
        findings = run_checks(gather_evidence(prepared, settings))
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise _stopped(data, errors)
    return findings


def write_gate(run: Run, findings: Sequence[Finding], settings: DataSettings) -> None:
    """What was found, into the run; of a finding about more than 1,000 cases the first are named."""
    rows = [
        {**replace(finding, cases=finding.cases[:CASES_IN_A_RUN]).to_json(), "case_count": len(finding.cases)}
        for finding in findings
    ]
    write_sealed_json(run.gate_file, {"format": 1, "gate": settings.gate, "findings": rows})


def _stopped(data: str | Path, errors: list[Finding]) -> DataError:
    if len(errors) == 1:
        return DataError(f"`{data}`: {errors[0].message}", hint=f"{errors[0].advice}; {_all_told(data)}")
    width = max(len(error.check) for error in errors)
    lines = [f"{len(errors)} problems in `{data}`"]
    for error in errors:
        lines += [f"  {error.check:<{width}}   {error.message}", f"  {'':<{width}}   {error.advice}"]
    return DataError("\n".join(lines), hint=_all_told(data))


def _all_told(data: str | Path) -> str:
    return f"`danlu inspect {data}` shows every example it is about"
