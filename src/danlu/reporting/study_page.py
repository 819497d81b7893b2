"""`study.html`: what a search tried, what mattered, and what it found."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from typing import Any

from danlu.base.studies import Study

SLICES = 4
SHOWN_TRIALS = 400
FEWEST_DRAWN = 3


def write_study_page(study: Study) -> None:
    """Write the page of a study from the files in its folder."""
    import danlu
    from danlu.reporting import search_figures as figures
    from danlu.reporting.charts import draw_charts
    from danlu.reporting.page import write_page

    status = study.status()
    plan = status["plan"]
    ranges = _ranges(plan["space"])
    rows = _rows(study, list(ranges))
    lower = plan["best_by"] == "validation_loss"
    label = plan["best_by"].replace("_", " ") + ("" if lower else ", %")
    factor = 1.0 if lower else 100.0
    scored = [_times(row, factor) for row in rows if row["score"] is not None]
    importance = study.importance()
    log_keys = [key for key, told in ranges.items() if told["log"] or told["list"]]
    is_log = lower and _spans(scored)
    drawn: dict[str, Any] = {}
    if len(scored) >= FEWEST_DRAWN:
        drawn["history"] = lambda: figures.search_history(scored, label, log=is_log, lower_is_better=lower)
    if importance:
        drawn["importance"] = lambda: figures.importance_bars(importance)
        first = [row for row in scored if row["first_score"] is not None]
        for number, key in enumerate(list(importance)[:SLICES]):
            points = [(row["values"][key], row["first_score"]) for row in first if key in row["values"]]
            drawn[f"slice {number}"] = _slice(
                figures, points, key, label, (key in log_keys, is_log), ranges[key]["list"]
            )
        ranked = _ranked(first, lower)
        drawn["parallel"] = lambda: figures.parallel_settings(ranked, log_keys, upright=False)
        drawn["parallel on a phone"] = lambda: figures.parallel_settings(ranked, log_keys, upright=True)
    write_page(
        study.page_file,
        "study",
        name=study.name,
        status=status,
        plan=plan,
        lower=lower,
        ranges=[(key, told["shown"], plan["defaults"].get(key)) for key, told in ranges.items()],
        found=_found(status, plan),
        rows=rows[:SHOWN_TRIALS],
        count=len(rows),
        states={
            state: sum(row["state"] == state for row in rows) for state in ("complete", "pruned", "failed", "lost")
        },
        keys=list(ranges),
        importance=importance,
        charts=draw_charts(drawn),
        slices=[f"slice {number}" for number in range(SLICES) if f"slice {number}" in drawn],
        version=danlu.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        environment="",
    )


def _slice(
    figures: Any,
    points: Sequence[tuple[Any, float]],
    key: str,
    label: str,
    log: tuple[bool, bool],
    is_list: bool,
) -> Any:
    return lambda: figures.search_slice(points, key, label, log=log, is_list=is_list)


def _ranges(space: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every key searched, with its range as people read it."""
    found: dict[str, dict[str, Any]] = {}
    for told in (space["common"], *space["of_model"].values()):
        for key, item in told.items():
            if "values" in item:
                shown = ", ".join(_shown(value) for value in item["values"])
            else:
                shown = f"{item['low']:g} to {item['high']:g}" + (", by factors" if item["log"] else "")
            before = found.get(key)
            shown = f"{before['shown']}; {shown}" if before else shown
            found[key] = {"shown": shown, "log": bool(item.get("log")), "list": "values" in item}
    return found


def _rows(study: Study, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `trials.csv`, numbers as numbers."""
    with open(study.trials_file, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows: list[dict[str, Any]] = []
    for told in table:
        row: dict[str, Any] = {name: _number(value) for name, value in told.items() if name not in keys}
        row["values"] = {key: _typed(told[key]) for key in keys if told.get(key)}
        row["number"] = int(told["number"])
        row["state"], row["reason"], row["defaults"] = told["state"], told["reason"], told["defaults"] == "true"
        rows.append(row)
    return rows


def _times(row: Mapping[str, Any], factor: float) -> dict[str, Any]:
    scores = ("score", "first_score", "best_score")
    return {**row, **{name: None if row[name] is None else factor * row[name] for name in scores}}


def _spans(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether scores span so much that an axis of factors shows them better."""
    scores = [row["score"] for row in rows if row["score"] > 0]
    return len(scores) == len(rows) > 0 and max(scores) / min(scores) > 20


def _ranked(rows: Sequence[Mapping[str, Any]], lower: bool) -> list[tuple[dict[str, Any], float]]:
    order = sorted(rows, key=lambda row: row["first_score"] if lower else -row["first_score"])
    return [(row["values"], place / max(1, len(order) - 1)) for place, row in enumerate(order)]


def _found(status: Mapping[str, Any], plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(key, danlu's value, the winner's) of what the winner sets."""
    best = status.get("best")
    if not best:
        return []
    return [(key, _shown(plan["defaults"].get(key, "auto")), _shown(value)) for key, value in best["settings"].items()]


def _shown(value: Any) -> str:
    if value is None:
        return "off"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _typed(text: str) -> Any:
    number = _number(text)
    if number is None:
        return text
    return int(number) if text.lstrip("-").isdigit() else number
