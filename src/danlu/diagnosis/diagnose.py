"""The verb `diagnose`: a run → what is wrong with its training, `findings.json` and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base import log
from danlu.base.errors import ModelError
from danlu.base.files import write_sealed_json
from danlu.base.runs import Run, find_run
from danlu.diagnosis.found import Found, command_of
from danlu.diagnosis.layers import layer_table
from danlu.diagnosis.reading import read_evidence
from danlu.diseases import DISEASES
from danlu.diseases.diagnosis import Diagnosis
from danlu.diseases.examine import examine
from danlu.training.record import write_record

SHOWN = 3


@dataclass(frozen=True)
class Findings:
    """`found`: the surest first, causes before what they cause. `layers`: a row each, as `layer_table` makes them."""

    run: Run
    found: tuple[Found, ...]
    layers: tuple[dict[str, Any], ...]
    looked_for: tuple[str, ...]

    @property
    def first(self) -> tuple[Found, ...]:
        """The three to begin with."""
        return self.found[:SHOWN]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "findings": [found.to_json() for found in self.found],
            "layers": list(self.layers),
            "looked_for": list(self.looked_for),
        }


def diagnose(place: Run | str | Path) -> Findings:
    """Name what is wrong with the training of a run, with evidence and a cure, failed and interrupted runs included.

    Writes `findings.json` and `diagnosis.html` into the run, and its `record.md` anew. Raises `ConfigError` when there
    is no such run, `ModelError` when its files are damaged.

    >>> [found.diagnosis.disease for found in diagnose("runs/latest").first]     # doctest: +SKIP
    ['rate_too_high', 'class_collapse']
    """
    run = place if isinstance(place, Run) else find_run(place)
    evidence = read_evidence(run)
    found = tuple(Found(one, _command(one, run)) for one in examine(evidence))
    findings = Findings(run, found, tuple(layer_table(evidence.watched)), tuple(DISEASES.names()))
    write_sealed_json(run.findings_file, {**findings.to_json(), "tried": _tried_before(run)})
    write_record(run)
    from danlu.reporting.diagnosis_page import write_diagnosis

    write_diagnosis(run)
    return findings


def _command(diagnosis: Diagnosis, run: Run) -> str | None:
    """Trains as the run was trained, but for the cure; or the verb that helps."""
    if run.is_own():
        return None
    return command_of(diagnosis.cure, run.status()["data"], config=run.config_file, run=run)


def _tried_before(run: Run) -> list[Any]:
    """The cures tried so far, which are no reason not to write damaged findings anew."""
    try:
        return list((run.findings() or {}).get("tried", []))
    except ModelError as error:
        log.warn(f"{error.message}; it is written anew, without the cures tried before")
        return []
