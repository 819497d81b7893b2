"""Charts of a search: its history, what mattered, settings together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from danlu.base.log import display_width
from danlu.reporting.drawing import (
    LABEL_INCHES,
    LEGEND_POINTS,
    NARROW,
    PLAIN,
    TRAIN,
    VALIDATION,
    WIDE,
    axes_of,
    clean_label,
)


def search_history(rows: Sequence[Mapping[str, Any]], label: str, *, log: bool, lower_is_better: bool) -> Figure:
    """Scores of trials by number, fainter the shorter the training was, and the best so far.

    A row: `number`, `score`, `fidelity` from 0 to 1, and `best_score`, None where a trial has none on all the data.
    """
    figure, axes = axes_of("trial", label, (NARROW, 2.5))
    numbers = np.array([row["number"] for row in rows])
    scores = np.array([row["score"] for row in rows], dtype=float)
    shares = np.array([row["fidelity"] for row in rows], dtype=float)
    for is_full, color, told in ((False, PLAIN, "shorter"), (True, TRAIN, "in full")):
        chosen = (shares >= 0.999) == is_full
        if chosen.any():
            size = 9 + 14 * shares[chosen]
            axes.scatter(numbers[chosen], scores[chosen], s=size, color=color, alpha=0.75, linewidth=0, label=told)
    best, line = math.nan, []
    for row in rows:
        value = row["best_score"]
        if value is not None and not (value >= best if lower_is_better else value <= best):
            best = value
        line.append(best)
    axes.step(numbers, line, where="post", color=VALIDATION, linewidth=1.4, label="best so far")
    if log:
        _by_factors(axes, "y", scores)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=LEGEND_POINTS, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.2)
    return figure


def importance_bars(shares: Mapping[str, float]) -> Figure:
    """Shares that add up to 1 by name, the largest on top."""
    names = [clean_label(name, 26) for name in shares]
    left = LABEL_INCHES * max(map(display_width, names), default=1) + 0.15
    height = 0.24 * len(names) + 0.55
    figure = Figure(figsize=(NARROW, height))
    axes = figure.add_axes((left / NARROW, 0.45 / height, (NARROW - left - 0.15) / NARROW, 1 - 0.55 / height))
    axes.barh(np.arange(len(names)), [100 * share for share in shares.values()], color=TRAIN, height=0.66)
    axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel("importance, %")
    return figure


def search_slice(
    points: Sequence[tuple[Any, float]], key: str, label: str, *, log: tuple[bool, bool], is_list: bool = False
) -> Figure:
    """Scores by one setting: numbers on an axis; names, and numbers of a list, side by side.

    `log`: of the setting, of the score.
    """
    figure, axes = axes_of(clean_label(key, 30), label, (NARROW, 2.1))
    places, names = _places([value for value, _ in points])
    if is_list and not names:
        numbers = sorted(set(places))
        places, names = [float(numbers.index(place)) for place in places], [f"{number:g}" for number in numbers]
    axes.scatter(places, [score for _, score in points], s=14, color=TRAIN, alpha=0.6, linewidth=0)
    if names:
        axes.set_xticks(range(len(names)), [clean_label(name, 12) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif log[0]:
        _by_factors(axes, "x", places)
    if log[1]:
        _by_factors(axes, "y", [score for _, score in points])
    return figure


def parallel_settings(
    trials: Sequence[tuple[Mapping[str, Any], float]], log_keys: Sequence[str], *, upright: bool
) -> Figure:
    """Each trial as a line through its settings, the best tenth on top in colour. `upright`: an axis below the other.

    `trials`: settings by key, and the rank of the trial from 0, the best, to 1.
    """
    keys = list(dict.fromkeys(key for values, _ in trials for key in values))
    drawn: dict[str, list[float]] = {}
    ends: dict[str, tuple[str, str]] = {}
    for key in keys:
        places, names = _places([values.get(key) for values, _ in trials])
        numbers = np.array(places, dtype=float)
        first_and_last = (names[0], names[-1]) if names else (f"{np.nanmin(numbers):.3g}", f"{np.nanmax(numbers):.3g}")
        if key in log_keys and not names and np.nanmin(numbers) > 0:
            numbers = np.log(numbers)
        span = np.nanmax(numbers) - np.nanmin(numbers)
        drawn[key] = list((numbers - np.nanmin(numbers)) / span) if span else [0.5] * len(numbers)
        ends[key] = first_and_last
    count = len(keys)
    figure = Figure(figsize=(NARROW, 0.62 * count + 0.3) if upright else (WIDE, 2.7))
    axes = figure.add_axes((0.05, 0.04, 0.9, 0.88) if upright else (0.05, 0.2, 0.9, 0.68))
    for place in sorted(range(len(trials)), key=lambda place: -trials[place][1]):
        rank = trials[place][1]
        values = [drawn[key][place] for key in keys]
        along = list(range(count))
        x, y = (values, along) if upright else (along, values)
        is_good = rank <= 0.1
        axes.plot(x, y, color=VALIDATION if is_good else PLAIN, alpha=0.9 if is_good else 0.18, linewidth=1.1)
    axes.axis("off")
    for place, key in enumerate(keys):
        name = clean_label(key.partition(".")[2] or key, 22)
        if upright:
            axes.plot([0, 1], [place, place], color="#334155", linewidth=0.8)
            axes.text(0.5, place - 0.16, name, ha="center", va="bottom", fontsize=8)
            for end, told in zip((0, 1), ends[key], strict=True):
                axes.text(end, place + 0.14, clean_label(told, 12), ha=("left", "right")[end], va="top", fontsize=7)
        else:
            axes.plot([place, place], [0, 1], color="#334155", linewidth=0.8)
            axes.text(place, -0.2, name.replace("_", "\n"), ha="center", va="top", fontsize=8, linespacing=0.95)
            for end, told in zip((0, 1), ends[key], strict=True):
                at = (-0.03, "top") if end == 0 else (1.03, "bottom")
                axes.text(place, at[0], clean_label(told, 12), ha="center", va=at[1], fontsize=7)
    if upright:
        axes.set_ylim(count - 0.6, -0.6)
    else:
        axes.set_xlim(-0.4, count - 0.6)
    return figure


def _by_factors(axes: Any, which: str, values: Sequence[float] | np.ndarray) -> None:
    """A logarithmic axis with plain numbers, a few of them: style() has no powers in small print."""
    given = [value for value in values if value > 0]
    decades = math.log10(max(given) / min(given)) if given else 0.0
    steps = (1.0, 2.0, 5.0) if decades < 1.6 else (1.0, 3.0) if decades < 2.6 else (1.0,)
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(lambda value, place: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def _places(values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """Numbers as they are; anything else as places of its names, which are given too."""
    given = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in given):
        return [math.nan if value is None else float(value) for value in values], []
    names = sorted({str(value) for value in given})
    return [math.nan if value is None else float(names.index(str(value))) for value in values], names
