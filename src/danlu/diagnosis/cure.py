"""The cure of a diagnosis, tried: the same training with the proposed change, and whether it helped."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from danlu.base import log
from danlu.base.errors import ConfigError, DanluError
from danlu.base.files import write_sealed_json
from danlu.base.runs import Run, find_run
from danlu.diagnosis.diagnose import Findings, diagnose
from danlu.diagnosis.found import Found
from danlu.diagnosis.reading import read_evidence
from danlu.training.record import write_record
from danlu.training.train import train

JUDGED_BY_RECALL = ("imbalance", "class_collapse")
WORTH = 0.005


@dataclass(frozen=True)
class Cured:
    """`before` and `after`: the score of the two runs on the validation part, None where a training ended without one.

    `score`: validation accuracy, or the mean recall of the classes where a rare class is what it is about. `remains`:
    whether the disease is still found. `run`: the new run's folder, None when it could not begin.
    """

    disease: str
    command: str
    score: str
    before: float | None
    after: float | None
    remains: bool
    run: str | None
    failure: str | None = None

    @property
    def helped(self) -> bool:
        return self.after is not None and (self.before is None or self.after > self.before + WORTH)

    @property
    def told(self) -> str:
        """One sentence."""
        if self.failure is not None:
            return f"the training failed: {self.failure}"
        change = f"{self.score} {_share(self.before)} → {_share(self.after)}"
        return f"{change}: {'it helped' if self.helped else 'it did not help'}" + (
            "; the finding remains" if self.remains else ""
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "helped": self.helped, "told": self.told}


def cure(place: Run | str | Path, disease: str | None = None, *, name: str | None = None) -> Cured:
    """Train again with what the surest curable finding proposes, or that of the named disease, and compare.

    The split is the same, and so is every other setting. What came of it is added to `findings.json`, the page and
    `record.md`. Raises `ConfigError` when no finding has a cure that is a setting.

    >>> cure("runs/latest").helped     # doctest: +SKIP
    True
    """
    run = place if isinstance(place, Run) else find_run(place)
    findings = diagnose(run)
    found = _curable(findings, disease)
    settings = dict(found.diagnosis.cure.settings)
    log.say(f"trying: {found.command}")
    score = "macro recall" if found.diagnosis.disease in JUDGED_BY_RECALL else "validation accuracy"
    new, failure = None, None
    try:
        new = train(run.status()["data"], settings, config=run.config_file, name=name)
    except DanluError as error:
        failure = error.message
    remains = False
    if new is not None:
        remains = any(one.diagnosis.disease == found.diagnosis.disease for one in diagnose(new).found)
    cured = Cured(
        found.diagnosis.disease,
        str(found.command),
        score,
        _score(run, score),
        None if new is None else _score(new, score),
        remains,
        None if new is None else str(new),
        failure,
    )
    _keep(run, cured)
    return cured


def _curable(findings: Findings, disease: str | None) -> Found:
    names = [found.diagnosis.disease for found in findings.found]
    if disease is not None and disease not in names:
        raise ConfigError(
            f"`{disease}` was not found in `{findings.run}`", hint=f"found: {', '.join(names) or 'nothing'}"
        )
    wanted = [found for found in findings.found if disease in (None, found.diagnosis.disease)]
    for found in wanted:
        if found.command and found.diagnosis.cure.settings:
            return found
    if not wanted:
        raise ConfigError(f"nothing was found in `{findings.run}`, so there is nothing to cure")
    first = wanted[0].diagnosis
    raise ConfigError(f"no setting cures `{first.disease}`", hint=first.cure.advice)


def _score(run: Run, score: str) -> float | None:
    evidence = read_evidence(run)
    if score == "macro recall":
        return evidence.validation.macro_recall if evidence.validation is not None else None
    value = evidence.validation_accuracy
    return value if math.isfinite(value) else None


def _keep(run: Run, cured: Cured) -> None:
    from danlu.reporting.diagnosis_page import write_diagnosis

    findings = run.findings() or {}
    write_sealed_json(run.findings_file, {**findings, "tried": [*findings.get("tried", []), cured.to_json()]})
    write_record(run)
    write_diagnosis(run)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}"
