"""Charts of data, of runs and of what a service answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.dates import MINUTELY, SECONDLY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from danlu.base.log import display_width
from danlu.reporting.drawing import (
    HEIGHT,
    LABEL_INCHES,
    LEGEND_INCHES,
    LEGEND_POINTS,
    NARROW,
    PLAIN,
    SERIES,
    TRAIN,
    VALIDATION,
    WARN,
    axes_of,
    clean_label,
)

SIXTIETHS = [1, 2, 3, 5, 10, 15, 30]  # between ticks; without 2 and 3, six minutes may have one alone
NUMBERED_CLASSES = 20
NAMED_CLASSES = 60


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, Callable[[], Figure]]:
    """Loss, accuracy and learning rate by epoch; no accuracy where answers are not scores of classes."""
    epochs = [row["epoch"] + 1 for row in history]
    best = next((row["epoch"] + 1 for row in reversed(history) if row.get("is_best")), None)

    def lines(label: str, *series: tuple[str, str, str], percent: bool = False, log: bool = False) -> Figure:
        figure, axes = axes_of("epoch", label)
        for key, told, color in series:
            values = [row[key] * (100 if percent else 1) for row in history]
            axes.plot(epochs, values, color=color, label=told, marker="o" if len(epochs) < 30 else None, markersize=3)
        if best is not None and len(epochs) > 1:
            axes.axvline(best, color=PLAIN, linewidth=1, linestyle=":", label="kept epoch")
        if log:
            axes.set_yscale("log")
        if len(series) > 1:
            axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
        return figure

    train, validation = ("train", TRAIN), ("validation", VALIDATION)
    drawn = {
        "loss": lambda: lines("loss", ("train_loss", *train), ("validation_loss", *validation)),
        "accuracy": lambda: lines(
            "accuracy, %", ("train_accuracy", *train), ("validation_accuracy", *validation), percent=True
        ),
        "learning_rate": lambda: lines("learning rate", ("learning_rate", "learning rate", TRAIN)),
    }
    if any(row["train_accuracy"] is None or row["validation_accuracy"] is None for row in history):
        del drawn["accuracy"]
    return drawn


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Rows are the truth, each as shares of its class; cells hold counts while there are few classes."""
    table = np.array(counts, dtype=float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    number = len(classes)
    side = min(6.4, max(2.4, 0.34 * number))
    names = [clean_label(name, 24) for name in classes]
    margin = LABEL_INCHES * max(map(display_width, names)) + 0.35 if number <= NAMED_CLASSES else 0.5
    figure = Figure(figsize=(side + margin + 0.1, side + margin + 0.1))
    width, height = figure.get_size_inches()
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axes.grid(False)
    if number <= NAMED_CLASSES:
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
    else:  # a picture: as many shapes would be megabytes
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, extent=(0, number, number, 0), interpolation="nearest")
    axes.set_ylim(number, 0)
    if number <= NAMED_CLASSES:
        size = 8 if number <= 30 else 5
        axes.set_xticks(np.arange(number) + 0.5, names, rotation=90, fontsize=size)
        axes.set_yticks(np.arange(number) + 0.5, names, fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    if number <= NUMBERED_CLASSES:
        for i, j in zip(*np.nonzero(table), strict=True):
            color = "white" if shares[i, j] > 0.55 else "#0f172a"
            axes.text(j + 0.5, i + 0.5, f"{table[i, j]:.0f}", ha="center", va="center", fontsize=7, color=color)
    return figure


def reliability(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy by confidence; on the diagonal a confidence means what it says. The area of a dot is its examples."""
    figure, axes = axes_of("confidence, %", "accuracy, %", size=(HEIGHT + 0.6, HEIGHT + 0.4))
    axes.plot([0, 100], [0, 100], color=PLAIN, linewidth=1, linestyle=":")
    for rows, label, color in ((before, "before", PLAIN), (after, "after the temperature", TRAIN)):
        counts = np.array([row["count"] for row in rows], dtype=float)
        x = [100 * row["confidence"] for row in rows]
        y = [100 * row["accuracy"] for row in rows]
        axes.plot(x, y, color=color, linewidth=1.2, label=label)
        axes.scatter(x, y, s=6 + 90 * counts / max(counts.sum(), 1), color=color, alpha=0.75, linewidth=0)
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    axes.legend(loc="upper left")
    return figure


def risk_coverage(curve: Sequence[Mapping[str, float]], chosen: Mapping[str, Any] | None) -> Figure:
    """Error among the answers given, when only the surest share is answered."""
    figure, axes = axes_of("answered, %", "wrong among the answered, %")
    axes.plot([100 * row["coverage"] for row in curve], [100 * row["error"] for row in curve], color=TRAIN)
    if chosen and chosen["answered"]:
        axes.axhline(100 * chosen["max_error"], color=WARN, linewidth=1, linestyle=":", label="error rate wished")
        axes.plot(
            [100 * chosen["coverage"]], [100 * chosen["error"]], "o", color=WARN, label="chosen threshold, on this part"
        )
        axes.legend()
    axes.set_xlim(0, 102)
    axes.set_ylim(bottom=0)
    return figure


def histogram(counted: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Bars of `counts` between `edges`, on a logarithmic axis where these span more than a decade."""
    figure, axes = axes_of(label, "examples")
    edges = np.asarray(counted["edges"])
    axes.bar(edges[:-1], counted["counts"], np.diff(edges), align="edge", color=TRAIN, edgecolor="white", linewidth=0.4)
    if edges[-1] / edges[0] > 10:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("")
    return figure


def class_balance(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> Figure:
    """Examples of each class, a bar of its parts on each other."""
    names = [clean_label(name) for name in classes]
    left = LABEL_INCHES * max(map(display_width, names)) + 0.15
    height = 0.2 * len(classes) + 0.7
    figure = Figure(figsize=(left + 3.6, height))
    axes = figure.add_axes((left / (left + 3.6), 0.45 / height, 3.4 / (left + 3.6), 1 - 0.7 / height))
    start = np.zeros(len(classes))
    for (part, values), color in zip(counts.items(), SERIES, strict=False):
        axes.barh(np.arange(len(classes)), values, left=start, color=color, label=part, height=0.72)
        start += np.array(values)
    axes.set_yticks(np.arange(len(classes)), names, fontsize=8)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel("examples")
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, handlelength=1)
    return figure


def compared_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], key: str, label: str) -> Figure:
    """One value of several runs by epoch, over each other."""
    figure, axes = axes_of("epoch", label)
    factor = 100 if label.endswith("%") else 1
    for number, (name, history) in enumerate(histories.items()):
        x = [row["epoch"] + 1 for row in history]
        y = [row[key] * factor for row in history]
        axes.plot(x, y, color=SERIES[number % len(SERIES)], label=clean_label(name), marker="o", markersize=3)
    axes.legend(fontsize=7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def over_time(
    series: Mapping[str, Sequence[tuple[float, float]]],
    label: str,
    *,
    spans: Sequence[tuple[float, float]] = (),
    levels: Mapping[str, float] | None = None,
    limit: float | None = None,
    width: float = NARROW,
) -> Figure:
    """Lines through points of a time, in seconds since 1970, and a value; NaN leaves a gap.

    `spans`: times to shade, from and to. `levels`: by the name of a line, where it should be, in its colour and broken.
    `limit`: one line for all. `width`: inches.
    """
    names = {name: clean_label(name, 24 if width > NARROW else 18) for name in series}
    told = [*names.values(), *(["limit"] if limit is not None else [])]
    columns = max(1, int((width - 0.5) / (LABEL_INCHES * max(map(display_width, told), default=1) + 0.35)))
    legend = LEGEND_INCHES * math.ceil(len(told) / columns) if len(told) > 1 else 0.0
    figure, axes = axes_of("", label, (width, 2.2 + legend))
    for start, end in spans:
        axes.axvspan(datetime.fromtimestamp(start), datetime.fromtimestamp(end), color=WARN, alpha=0.12, linewidth=0)
    for number, (name, points) in enumerate(series.items()):
        color = SERIES[number % len(SERIES)]
        moments = [datetime.fromtimestamp(time) for time, _ in points]
        line = {"linewidth": 1.2, "marker": ".", "markersize": 2.5}
        axes.plot(moments, [value for _, value in points], color=color, label=names[name], **line)
        if levels is not None and name in levels:
            axes.axhline(levels[name], color=color, linewidth=0.9, linestyle="--", alpha=0.7)
    if limit is not None:
        axes.axhline(limit, color=WARN, linewidth=1, linestyle=":", label="limit")
    locator = AutoDateLocator(minticks=2 if width <= NARROW else 3, maxticks=int(1.7 * width))
    locator.intervald = {**locator.intervald, MINUTELY: SIXTIETHS, SECONDLY: SIXTIETHS}
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_ylim(bottom=0)
    if len(told) > 1:
        spacing = {"handlelength": 1.2, "columnspacing": 1.0, "borderaxespad": 0}
        at = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
        axes.legend(fontsize=LEGEND_POINTS, ncols=min(columns, len(told)), **at, **spacing)
    return figure
