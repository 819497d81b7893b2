"""`monitor.html`: what a service answered, and whether that is still what its models were made for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

CHARTED_CLASSES = 6
CHARTED_RATIOS = 5
GAP = 6
LISTED_CLASSES = 30


def write_monitor(
    path: Path,
    models: Sequence[Mapping[str, Any]],
    *,
    short: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str],
    days: float,
    advice: str,
    refresh: int | None,
) -> None:
    """Write the page of a monitor's JSON. Each model also has `pieces` of its time, `spans` of alarms and `told` of
    them. `short`: models of which a line is told. `notes`: what is not in the numbers. `refresh`: seconds after which a
    browser reads it again."""
    import danlu
    from danlu.reporting.charts import draw_charts
    from danlu.reporting.page import write_page

    drawn = {f"{name}-{place}": draw for place, model in enumerate(models) for name, draw in _charts(model).items()}
    charts = draw_charts(drawn)
    write_page(
        path,
        "monitor",
        models=[
            {
                **model,
                "charts": {name: charts[f"{name}-{place}"] for name in _charts(model)},
                "classes": _classes(model),
            }
            for place, model in enumerate(models)
        ],
        short=short,
        notes=notes,
        days=days,
        advice=advice,
        refresh=refresh,
        version=danlu.__version__,
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        environment="",
    )


def _charts(model: Mapping[str, Any]) -> dict[str, Any]:
    from danlu.reporting.drawing import WIDE
    from danlu.reporting.figures import over_time

    pieces, spans = model["pieces"], model["spans"]

    def line(value: Callable[[Mapping[str, Any]], float | None]) -> list[tuple[float, float]]:
        return _points(pieces, value, model["seconds"])

    shares = {name: line(partial(_share_of, name)) for name in list(model["class_shares"])[:CHARTED_CLASSES]}
    levels = {name: 100 * share for name, share in model["reference_shares"].items()}
    ratios = {name: line(partial(_ratio_of, name)) for name in _worst(pieces)}
    confidence = {
        "mean confidence": line(lambda piece: 100 * piece["confidence"]),
        "answers below 0.7": line(lambda piece: 100 * piece["low"]),
    }
    latency = {"99 %": line(lambda piece: piece["p99"]), "median": line(lambda piece: piece["p50"])}
    rate = {"answers": line(lambda piece: piece["per_second"])}
    drift = partial(over_time, ratios, "difference ÷ its limit", spans=spans, limit=1)
    drawn = {
        "drift": partial(drift, width=WIDE),
        "drift on a phone": drift,
        "confidence": lambda: over_time(confidence, "%", spans=spans),
        "class shares": lambda: over_time(shares, "of the answers, %", spans=spans, levels=levels),
        "latency": lambda: over_time(latency, "milliseconds", spans=spans),
        "rate": lambda: over_time(rate, "answers a second", spans=spans),
    }
    return drawn if ratios else {name: draw for name, draw in drawn.items() if not name.startswith("drift")}


def _share_of(name: str, piece: Mapping[str, Any]) -> float:
    return float(100 * piece["shares"].get(name, 0))


def _ratio_of(name: str, piece: Mapping[str, Any]) -> float | None:
    ratio: float | None = piece["ratios"].get(name)
    return ratio


def _points(
    pieces: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float | None], seconds: float
) -> list[tuple[float, float]]:
    """A point for each piece that has the value, and a gap where several are missing."""
    points: list[tuple[float, float]] = []
    for piece in pieces:
        found = value(piece)
        if found is None:
            continue
        if points and piece["time"] - points[-1][0] > GAP * seconds:
            points.append((points[-1][0] + seconds, math.nan))
        points.append((piece["time"] + seconds / 2, found))
    return points


def _worst(pieces: Sequence[Mapping[str, Any]]) -> list[str]:
    """What came nearest to its limit, or beyond."""
    highest: dict[str, float] = {}
    for piece in pieces:
        for name, ratio in piece["ratios"].items():
            highest[name] = max(ratio, highest.get(name, 0))
    return sorted(highest, key=lambda name: -highest[name])[:CHARTED_RATIOS]


def _classes(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes that are answered most, and those that should be."""
    shares, reference = model["class_shares"], model["reference_shares"]
    names = sorted({*shares, *reference}, key=lambda name: -max(shares.get(name, 0), reference.get(name, 0)))
    return [
        {"name": name, "share": shares.get(name, 0.0), "reference": reference.get(name)}
        for name in names[:LISTED_CLASSES]
    ]
