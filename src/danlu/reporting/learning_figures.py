"""Charts of what a training looks like from inside, and of what was tried before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from danlu.reporting.drawing import (
    HEIGHT,
    LEGEND_INCHES,
    LEGEND_POINTS,
    PHONE,
    PLAIN,
    SERIES,
    TRAIN,
    VALIDATION,
    WARN,
    WIDTH,
    axes_of,
    clean_label,
)


def evidence(chart: Mapping[str, Any]) -> Figure:
    """The small chart of a finding: lines through (x, y), and levels they are compared with."""
    lines: Mapping[str, Sequence[tuple[float, float]]] = chart["lines"]
    told = len(lines) + len(chart["levels"])
    figure, axes = axes_of(chart["x"], chart["y"], (WIDTH, 2.4 + (0.5 * LEGEND_INCHES * told if told > 1 else 0)))
    for number, (name, points) in enumerate(lines.items()):
        color = SERIES[number % len(SERIES)]
        marker = "o" if len(points) < 30 else None
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, color=color, label=clean_label(name, 28), marker=marker, markersize=3, linewidth=1.4)
    for name, level in chart["levels"].items():
        axes.axhline(level, color=WARN, linewidth=1, linestyle=":", label=name)
    if chart["log"] and all(y > 0 for points in lines.values() for _, y in points):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    if chart["x"] in ("epoch", "step"):
        axes.xaxis.get_major_locator().set_params(integer=True)
    if told > 1:
        axes.legend(fontsize=LEGEND_POINTS, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return figure


def rate_curve(tested: Mapping[str, Any], configured: float) -> Figure:
    """Losses of a range test over the logarithm of the learning rate, as measured and smoothed, with the configured
    rate and the suggested ones; where the loss blows up, the line leaves the chart.
    """
    figure, axes = axes_of("learning rate", "loss of a step", (PHONE, HEIGHT + 0.4))
    smoothed = tested["smoothed"]
    rates = tested["rates"][: len(smoothed) or None]
    losses = [math.nan if loss is None else loss for loss in tested["losses"][: len(rates)]]
    axes.plot(rates, losses, ".", color=PLAIN, markersize=3, alpha=0.45, label="measured")
    if smoothed:
        axes.plot(rates, smoothed, color=TRAIN, label="smoothed")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    axes.xaxis.set_minor_formatter("")
    start = smoothed[0] if smoothed else next((loss for loss in losses if not math.isnan(loss)), 1.0)
    low = min(smoothed or [start])
    margin = max(start - low, 0.1 * abs(start), 1e-6)
    axes.set_ylim(low - 0.35 * margin, start + 0.6 * margin)
    axes.axvline(configured, color=WARN, linewidth=1.4, linestyle="--", label="configured", zorder=3)
    for (name, rate), color in zip(tested["suggestions"].items(), SERIES[2:], strict=False):
        is_chosen = rate == tested["suggested"]
        told = name.replace("_", " ") + (", suggested" if is_chosen else "")
        axes.axvline(
            rate, color=color, linewidth=1.8 if is_chosen else 1.0, linestyle="-" if is_chosen else ":", label=told
        )
    at = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0}
    axes.legend(fontsize=LEGEND_POINTS, ncols=2, handlelength=1.4, **at)
    return figure


def overfit_curve(overfit: Mapping[str, Any]) -> Figure:
    """Loss of one batch that is learnt by heart, by step; with the share of right answers on a second axis."""
    figure, axes = axes_of("step", "loss of the batch", (PHONE, 2.6))
    steps = range(len(overfit["losses"]))
    axes.plot(steps, [math.nan if loss is None else loss for loss in overfit["losses"]], color=TRAIN, label="loss")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if overfit["accuracies"]:
        right = axes.twinx()
        right.plot(steps, [100 * share for share in overfit["accuracies"]], color=VALIDATION, linewidth=1.2)
        right.set_ylim(0, 102)
        right.set_ylabel("right, %", color=VALIDATION)
        right.grid(False)
        axes.set_ylabel("loss of the batch", color=TRAIN)
    return figure
