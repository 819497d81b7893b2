"""`diagnosis.html`: what is wrong with a training, the evidence drawn, the cure, and the table of layers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danlu.base.runs import Run

LAYER_CHARTS = (("gradient_norm", "gradient norm"), ("update_ratio", "update ÷ weights"), ("dead_share", "dead units"))
CHARTED_LAYERS = 8


def write_diagnosis(run: Run) -> None:
    """Write the page from the run's `findings.json`."""
    import danlu
    from danlu.reporting import learning_figures as figures
    from danlu.reporting.charts import draw_charts
    from danlu.reporting.page import write_page

    findings, status = run.findings() or {}, run.status()
    drawn: dict[str, Any] = {}
    for number, found in enumerate(findings["findings"]):
        if has_points(found["chart"]):
            drawn[f"finding-{number}"] = _small(figures.evidence, found["chart"])
    layers = findings["layers"]
    for key, told in LAYER_CHARTS:
        rows = [row for row in layers if row[f"{key}_by_epoch"]]
        if rows:
            chosen = (
                rows if len(rows) <= CHARTED_LAYERS else [*rows[: CHARTED_LAYERS // 2], *rows[-CHARTED_LAYERS // 2 :]]
            )
            chart = {
                "x": "epoch",
                "y": told,
                "lines": {f"{row['name']} {row['kind']}": row[f"{key}_by_epoch"] for row in chosen},
                "levels": {},
                "log": key != "dead_share",
            }
            drawn[f"layers-{key}"] = _small(figures.evidence, chart)
    write_page(
        run.diagnosis_file,
        "diagnosis",
        run=run.name,
        status={"stop_reason": None, **status, "data": Path(str(status.get("data", "?"))).name},
        findings=findings["findings"],
        tried=findings.get("tried", []),
        layers=layers,
        layer_charts=[(f"layers-{key}", told) for key, told in LAYER_CHARTS if f"layers-{key}" in drawn],
        looked_for=findings["looked_for"],
        charts=draw_charts(drawn),
        version=danlu.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        environment="",
    )


def has_points(chart: Mapping[str, Any] | None) -> bool:
    return chart is not None and any(len(points) > 1 for points in chart["lines"].values())


def _small(draw: Any, chart: Mapping[str, Any]) -> Any:
    return lambda: draw(chart)
