"""`inspection.html`: what data holds and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHOWN_CASES = 60
CHARTED_CLASSES = 60


def write_inspection(
    path: Path,
    inspection: Mapping[str, Any],
    *,
    samples: Mapping[str, list[str]],
    shown: Mapping[str, Mapping[str, str]],
    looked_for_labels: bool,
) -> None:
    """Write the page of an inspection's JSON. `samples`: class → keys; `shown`: key → its picture or text."""
    import danlu
    from danlu.reporting import figures
    from danlu.reporting.charts import draw_charts
    from danlu.reporting.page import write_page

    facts = inspection["facts"]
    classes = facts["classes"]
    parts = [part for part in ("train", "validation", "test", "dropped") if part in classes[0]]
    drawn: dict[str, Any] = {"balance": None, "size": None}
    if len(classes) <= CHARTED_CLASSES:
        counts = {part: [row[part] for row in classes] for part in parts}
        drawn["balance"] = lambda: figures.class_balance(counts, [row["name"] for row in classes])
    if facts["kind"] == "texts":
        drawn["size"] = lambda: figures.histogram(facts["texts"]["signs"], "length in signs")
    elif facts["images"]["different_sizes"] > 1:
        drawn["size"] = lambda: figures.histogram(facts["images"]["longest_side"], "longest side in pixels")
    findings = [
        {**found, "cases": found["cases"][:SHOWN_CASES], "texts": facts["kind"] == "texts"}
        for found in inspection["findings"]
    ]
    write_page(
        path,
        "inspection",
        data=inspection["data"],
        facts=facts,
        parts=parts,
        findings=findings,
        counts={kind: sum(found["severity"] == kind for found in findings) for kind in ("error", "warning", "note")},
        samples=samples,
        shown=shown,
        charts=draw_charts(drawn),
        looked_for_labels=looked_for_labels,
        version=danlu.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        environment="",
    )
