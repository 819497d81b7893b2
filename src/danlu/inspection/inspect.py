"""The verb `inspect`: DATA → `inspection.html` and `inspection.json`, with all the data gate would say and more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base import log
from danlu.base.config import read_config
from danlu.base.errors import DataError
from danlu.base.extras import require_extra
from danlu.base.files import make_folder, write_json
from danlu.base.runs import inspections_folder
from danlu.checks.finding import Finding
from danlu.data.explore import describe
from danlu.data.gate import gather_evidence, run_checks
from danlu.data.kept_split import earlier_split, own_folder_name
from danlu.data.prepare import PreparedData, prepare
from danlu.inputs.shown import shown

PICTURED_CASES = 24
KEYS_OF_A_CASE = 4
SAMPLES = 60


@dataclass(frozen=True)
class Inspection:
    """What was found in data. `facts`: numbers; `findings`: what is wrong, worst first; `page`: the HTML file."""

    data: str
    facts: dict[str, Any]
    findings: tuple[Finding, ...]
    page: Path

    @property
    def has_errors(self) -> bool:
        """Whether a training would be stopped."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "data": self.data,
            "facts": self.facts,
            "findings": [{**finding.to_json(), "case_count": len(finding.cases)} for finding in self.findings],
        }


def inspect(
    data: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    config: str | Path | None = None,
    words: Sequence[str] = (),
    labels: bool = False,
    folder: str | Path | None = None,
) -> Inspection:
    """Describe data and look for all faults the data gate knows; nothing is changed and nothing stops it.

    With `labels`, models trained on the other examples also look for wrong labels, which takes minutes. The page and
    the JSON with every example of every finding go to `folder`, or below `runs/inspections/`.
    Raises `ConfigError`, or `DataError` where there is nothing to inspect.

    >>> inspect("photos/").has_errors     # doctest: +SKIP
    False
    """
    require_extra("train", "an inspection")
    started = time.monotonic()
    checked = read_config(config, words, settings).settings
    prepared = prepare(
        data, checked.data.model_copy(update={"unreadable": "skip"}), earlier=earlier_split(data, checked.data)
    )
    evidence = gather_evidence(prepared, checked.data)
    if labels:
        from danlu.inspection.suspects import find_suspects

        log.say("labels: training models that each leave out a part of the examples")
        try:
            probabilities, suspects = find_suspects(prepared, checked.training.seed)
            evidence = replace(evidence, label_probabilities=probabilities, suspects=suspects)
        except DataError as error:  # the other findings are told all the same
            log.warn(f"labels were not looked at: {error.message}")
            labels = False
    findings = run_checks(evidence)
    home = Path(folder) if folder is not None else inspections_folder() / own_folder_name(data)
    make_folder(home)
    inspection = Inspection(str(data), describe(prepared), findings, home / "inspection.html")
    write_json(home / "inspection.json", inspection.to_json())
    _write_page(inspection, prepared, looked_for_labels=labels)
    log.say(f"inspected in {time.monotonic() - started:.1f} s: {inspection.page}")
    return inspection


def _write_page(inspection: Inspection, prepared: PreparedData, *, looked_for_labels: bool) -> None:
    from danlu.reporting.inspection_page import write_inspection

    samples = _samples(prepared)
    wanted = [key for keys in samples.values() for key in keys]
    for finding in inspection.findings:
        wanted += [key for case in finding.cases[:PICTURED_CASES] for key in case.keys[:KEYS_OF_A_CASE]]
    write_inspection(
        inspection.page,
        inspection.to_json(),
        samples=samples,
        shown=_shown(prepared, wanted),
        looked_for_labels=looked_for_labels,
    )


def _shown(prepared: PreparedData, keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Key → picture or text of the readable ones among these examples."""
    wanted = set(keys)
    items = prepared.examples.items
    return {key: shown(items[i]) for i, key in enumerate(prepared.examples.keys) if key in wanted}


def _samples(prepared: PreparedData) -> dict[str, list[str]]:
    """Class → keys of some train examples, spread evenly; some of the first 20 classes where there are many."""
    labels, keys = prepared.examples.labels, prepared.examples.keys
    train = prepared.parts["train"].indices
    classes = prepared.classes[:20]
    each = max(2, min(10, SAMPLES // len(classes)))
    chosen: dict[str, list[str]] = {}
    for label, name in enumerate(classes):
        own = train[labels[train] == label]
        places = {round(place) for place in np.linspace(0, len(own) - 1, each)} if len(own) else set()
        chosen[name] = [keys[own[place]] for place in sorted(places)]
    return chosen
