"""`probe.html`: what was tried before training, with its curves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUGGESTIONS = {
    "steepest": "where the smoothed loss falls most within half a decade",
    "valley": "two thirds along the longest stretch in which the smoothed loss falls",
    "lowest_half": "half the rate at which the smoothed loss is lowest",
    "blow_up_tenth": "a tenth of the rate at which half of the fall is lost again",
}


def write_probe(path: Path, probed: Mapping[str, Any], *, rows: Sequence[tuple[str, str, str]], is_fine: bool) -> None:
    """Write the page of a probe's JSON. `rows`: what was tested, result, numbers; `is_fine`: the rate may stay."""
    import danlu
    from danlu.reporting import learning_figures as figures
    from danlu.reporting.charts import draw_charts
    from danlu.reporting.page import write_page

    configured, tested, overfit = probed["configured"], probed["range_test"], probed["overfit"]
    drawn = {
        "rates": (lambda: figures.rate_curve(tested, configured["learning_rate"])) if tested["rates"] else None,
        "overfit": lambda: figures.overfit_curve(overfit),
    }
    write_page(
        path,
        "probe",
        probed=probed,
        tested=tested,
        overfit=overfit,
        rows=rows,
        is_fine=is_fine,
        meanings=SUGGESTIONS,
        charts=draw_charts(drawn),
        version=danlu.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        environment="",
    )
