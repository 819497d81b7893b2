"""The page of `danlu compare`: runs beside each other."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_comparison(
    path: Path,
    comparison: Mapping[str, Any],
    *,
    sentences: Sequence[str],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write the page of a comparison's JSON. `sentences`: one a pair; `histories`: run → its rows by epoch."""
    import danlu
    from danlu.reporting import figures
    from danlu.reporting.charts import draw_charts
    from danlu.reporting.page import write_page

    drawn = {
        "validation_accuracy": lambda: figures.compared_curves(
            histories, "validation_accuracy", "validation accuracy, %"
        ),
        "validation_loss": lambda: figures.compared_curves(histories, "validation_loss", "validation loss"),
        "train_loss": lambda: figures.compared_curves(histories, "train_loss", "train loss"),
        "learning_rate": lambda: figures.compared_curves(histories, "learning_rate", "learning rate"),
    }
    write_page(
        path,
        "comparison",
        comparison=comparison,
        sentences=sentences,
        charts=draw_charts(drawn),
        version=danlu.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        environment="",
    )
