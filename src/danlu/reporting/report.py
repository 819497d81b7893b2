"""The verb `report`: a run → `report.html`, the one file a person opens to know whether to believe the model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.base.config import read_origins
from danlu.base.extras import require_extra
from danlu.base.runs import OWN, Run, find_run
from danlu.data.split import read_manifest

SHOWN_CASES = 60
SHOWN_FINDINGS = 3
SHOWN_CLASSES = 100
SORTED_FROM = 12
CALIBRATION_LIMIT = 0.05
LOOKS_LIMIT = 10
WEAK_CLASS = 0.5
SECTIONS = (
    ("result", "Result"),
    ("scores", "Scores"),
    ("confusion", "Confusions"),
    ("gallery", "Examples"),
    ("calibration", "Calibration"),
    ("rejection", "Unknown"),
    ("training", "Training"),
    ("diagnosis", "Diagnosis"),
    ("data", "Data"),
    ("settings", "Settings"),
)
OF_AN_EVALUATION = ("scores", "confusion", "gallery", "calibration", "rejection")


def report(place: Run | str | Path, *, png: bool = False) -> Path:
    """Write `report.html` of a run, failed ones included, and return its path.

    The file is complete in itself: charts as SVG, pictures inside, no script, nothing fetched. `png` also writes each
    chart into the folder `charts`, with an installed Chinese font when there is one, which is said when there is not.

    >>> report("runs/latest")     # doctest: +SKIP
    """
    require_extra("train", "a report")
    import danlu
    from danlu.reporting.page import write_page

    run = place if isinstance(place, Run) else find_run(place)
    status, evaluation = run.status(), run.evaluation()
    gate, history, findings = run.gate(), run.history(), run.findings()
    write_page(
        run.report_file,
        "report",
        run=run.name,
        status={
            "stop_reason": None,
            "notes": [],
            "started": "?",
            "kind": None,
            "batches": None,
            **status,
            "data": _place(status),
        },
        evaluation=evaluation,
        verdicts=[*_verdicts(status, evaluation, gate, history), *_diagnosed(findings)],
        findings=findings,
        scores=_scores(evaluation) if evaluation else [],
        per_class=_per_class(evaluation) if evaluation else [],
        gallery=_gallery(run),
        explained=_explained(run).get("method"),
        charts=_charts(run, evaluation, history, png=png),
        history=history,
        best_epoch=status.get("best", {}).get("epoch"),
        gate=_shortened(gate, status),
        parts=", ".join(f"{count:,} {part}" for part, count in status.get("parts", {}).items()) or "no parts",
        settings=read_origins(run.config_file) if run.config_file.exists() else [],
        sections=[row for row in SECTIONS if _is_there(row[0], evaluation, findings)],
        version=danlu.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        environment=_environment(status.get("environment")),
    )
    return run.report_file


def _is_there(section: str, evaluation: Any, findings: Any) -> bool:
    if section == "diagnosis":
        return findings is not None
    return bool(evaluation) or section not in OF_AN_EVALUATION


def _verdicts(
    status: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    gate: Mapping[str, Any] | None,
    history: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """What speaks for and against believing the figure, each as (good, warning or error; a sentence)."""
    told: list[tuple[str, str]] = []
    if status.get("state") != "finished":
        told.append(("error", f"the training did not finish: {status.get('stop_reason') or status.get('state')}"))
    if status.get("kind") == OWN:
        told.append(
            ("warning", "the data gate does not read batches of your own: leaks and copies were not looked for")
        )
    elif gate is None:
        told.append(("warning", "there is no record of a data gate (`gate.json` is missing)"))
    elif gate["gate"] == "off":
        told.append(("error", "the data gate was off: the test part may hold what the model was trained on"))
    else:
        warnings = [found for found in gate["findings"] if found["severity"] == "warning"]
        told += [("warning", f"data, {found['check'].replace('_', ' ')}: {found['message']}") for found in warnings]
        if not warnings:
            told.append(("good", "the data gate found neither errors nor warnings"))
    if len(history) < status.get("epochs_done", 0):
        lost = f"`history.jsonl` has {len(history):,} of {status['epochs_done']:,} epochs: its end is lost"
        told.append(("warning", lost))
    if evaluation is None:
        return told
    looks, runs = evaluation["part_looks"], evaluation["part_runs"]
    times = "once, by this run" if looks == 1 else f"{looks} times, by {runs} run{'s' if runs > 1 else ''}"
    chance = "" if looks <= LOOKS_LIMIT else ": whoever chose among the runs by it fitted them to it"
    told.append(("good" if looks <= LOOKS_LIMIT else "warning", f"this test part has been looked at {times}{chance}"))
    error = evaluation["calibration"]["after"]["expected_calibration_error"]
    chance = evaluation["calibration"]["by_chance"]
    sentence = (
        f"its confidence is off by {error:.1%} on average; a right one would be off by up to {chance:.1%} by chance"
    )
    told.append(("good" if error <= max(chance, CALIBRATION_LIMIT) else "warning", sentence))
    if untested := [name for name, row in evaluation["per_class"].items() if not row["support"]]:
        told.append(("warning", f"{len(untested):,} classes have no test example, first: {untested[0]}"))
    if chosen := evaluation["rejection"]["chosen"]:
        left = evaluation["examples"] - chosen["answered"]
        sentence = f"it answers `unknown` to {left:,} of {evaluation['examples']:,} test examples"
        told.append(("good" if chosen["answered"] else "error", sentence))
    weak = [(row["recall"], name) for name, row in evaluation["per_class"].items() if row["support"]]
    recall, name = min(weak)
    sentence = f"the weakest class is {name}: {recall:.1%} of its examples are recognised"
    told.append(("good" if recall >= WEAK_CLASS else "warning", sentence))
    kept = next((row for row in history if row["epoch"] == status.get("best", {}).get("epoch")), None)
    if kept and kept["validation_accuracy"] is not None:
        low, high = evaluation["accuracy_interval"]
        seen = kept["validation_accuracy"]
        fits = low - 0.02 <= seen <= high + 0.02
        end = "within the interval of the test accuracy" if fits else "the parts differ, or one is small"
        told.append(("good" if fits else "warning", f"validation accuracy was {seen:.2%}: {end}"))
    return told


def _diagnosed(findings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The findings that are sure or likely, three at most."""
    if findings is None:
        return []
    told = [row for row in findings["findings"] if row["level"] != "low"][:SHOWN_FINDINGS]
    if not told:
        return [("good", f"none of {len(findings['looked_for'])} diseases of trainings was found")]
    return [
        ("warning", f"training, {row['disease'].replace('_', ' ')} ({row['level']} confidence): {row['sentence']}")
        for row in told
    ]


def _scores(evaluation: Mapping[str, Any]) -> list[tuple[str, float, Any, bool]]:
    intervals = evaluation["intervals"]
    rows = [("accuracy", evaluation["accuracy"], intervals["accuracy"], True)]
    for kind, values in evaluation["averages"].items():
        rows += [
            (f"{kind} {'F1' if name == 'f1' else name}", value, intervals.get(f"{kind}_{name}"), True)
            for name, value in values.items()
        ]
    rows += [
        (f"among the {k} most probable", share, intervals.get(f"top_{k}"), True)
        for k, share in evaluation["top_k"].items()
    ]
    return [*rows, ("log loss", evaluation["log_loss"], intervals["log_loss"], False)]


def _per_class(evaluation: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """In the order of the classes while they are few; else the weakest first, at most 100."""
    rows = list(evaluation["per_class"].items())
    if len(rows) > SORTED_FROM:
        rows.sort(key=lambda row: (not row[1]["support"], row[1]["f1"]))
    return rows[:SHOWN_CLASSES]


def _explained(run: Run) -> dict[str, Any]:
    return run.explanations() or {}


def _gallery(run: Run) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows of the gallery by why they are shown, with what explains them where it was asked for."""
    explained = _explained(run).get("examples", {})
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in run.gallery():
        more = explained.get(row["key"], {})
        row["overlay"], row["tokens"] = more.get("picture"), more.get("tokens")
        groups.setdefault(row["why"], []).append(row)
    return list(groups.items())


def _charts(
    run: Run, evaluation: Mapping[str, Any] | None, history: Sequence[Mapping[str, Any]], *, png: bool
) -> dict[str, str]:
    """Name → SVG of each chart the facts allow."""
    from danlu.reporting import figures
    from danlu.reporting.charts import draw_charts

    drawn: dict[str, Any] = dict.fromkeys(("loss", "accuracy", "learning_rate", "balance"))
    if history:
        drawn |= figures.curves(history)
    classes: Sequence[str] = ()
    if evaluation:
        classes = evaluation["classes"]
        calibration, rejection = evaluation["calibration"], evaluation["rejection"]
        drawn |= {
            "confusion": lambda: figures.confusion(evaluation["confusion"], classes),
            "reliability": lambda: figures.reliability(calibration["before"]["bins"], calibration["after"]["bins"]),
            "risk_coverage": lambda: figures.risk_coverage(rejection["curve"], rejection["chosen"]),
        }
    counts = _counts_by_class(run)
    if counts and len(counts[1]) <= SHOWN_CLASSES:
        drawn["balance"] = lambda: figures.class_balance(*counts)
    return draw_charts(drawn, run.charts_folder if png else None, classes)


def _counts_by_class(run: Run) -> tuple[dict[str, list[int]], list[str]] | None:
    """Examples of each class in each part, by the manifest."""
    if not run.manifest_file.exists():
        return None
    table: dict[str, Counter[str]] = {}
    for row in read_manifest(run.manifest_file):
        table.setdefault(row.part, Counter())[row.label] += 1
    classes = list(run.model()["classes"])
    ordered = [part for part in ("train", "validation", "test", "dropped") if part in table]
    return {part: [table[part][name] for name in classes] for part in ordered}, classes


def _shortened(gate: dict[str, Any] | None, status: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gate's findings with as many cases as a page can show."""
    if gate is None:
        return None
    found = [
        {**row, "cases": row["cases"][:SHOWN_CASES], "texts": status.get("kind") == "texts"} for row in gate["findings"]
    ]
    return {**gate, "findings": found}


def _place(status: Mapping[str, Any]) -> str:
    """The last part of the data's path: a report is passed on, and whose folders it lay in is nobody's business."""
    told = str(status.get("data", "?"))
    return told if status.get("kind") == OWN else Path(told).name


def _environment(facts: Mapping[str, Any] | None) -> str:
    """One line of the facts `run.json` keeps of the machine."""
    flat = {name: value for name, value in (facts or {}).items() if name not in ("danlu", "packages")}
    return ", ".join(f"{name} {value}" for name, value in {**flat, **(facts or {}).get("packages", {})}.items())
