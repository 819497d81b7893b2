"""Charts as SVG whose text stays text, so that the reader's own fonts show any language; as PNG on request.

The only file that imports matplotlib. Nothing here touches matplotlib's global state.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.dates import MINUTELY, SECONDLY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import LogLocator, NullFormatter

from danlu.base.log import display_width

TRAIN, VALIDATION, PLAIN, WARN = "#2563eb", "#d97706", "#64748b", "#b91c1c"
SERIES = (TRAIN, VALIDATION, "#059669", "#7c3aed", "#be185d", "#0891b2", "#65a30d", "#334155")
WIDTH, HEIGHT = 4.8, 3.0
PHONE = 3.7  # still readable where a phone shrinks it
NARROW, WIDE = 3.25, 6.75  # a phone shows the one as it is; a page for a desk the other with one beside it, or three
LEGEND_POINTS, LEGEND_INCHES = 7.5, 0.16  # of a line; a phone's 9 pixels are 7 points
LABEL_INCHES = 0.066  # of a terminal column at 8 points, measured on wide fonts
SIXTIETHS = [1, 2, 3, 5, 10, 15, 30]  # between ticks; without 2 and 3, six minutes may have one alone
NUMBERED_CLASSES = 20
NAMED_CLASSES = 60
# Families with Chinese, Japanese and Korean signs, as the systems and their packages name them.
CJK_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Noto Sans CJK JP",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called `$x$`
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": "#334155",
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save inside this; the signs a font lacks cost nothing here, for the page has its own fonts."""
    families = ["sans-serif", *installed_cjk_families()[:1]]
    settings: Any = {**STYLE, "font.family": families}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def installed_cjk_families() -> list[str]:
    """Names of installed font families with Chinese signs, the preferred one first."""
    there = {font.name for font in fontManager.ttflist}
    return [name for name in CJK_FAMILIES if name in there]


def signs_without_a_font(texts: Sequence[str]) -> str:
    """The signs of these texts that no font used for PNG files can draw."""
    families = ["sans-serif", *installed_cjk_families()[:1]]
    drawable: set[int] = set()
    for family in families:
        drawable |= set(FT2Font(findfont(FontProperties(family=[family]))).get_charmap())
    return "".join(
        sorted({sign for text in texts for sign in text if sign.isprintable() and ord(sign) not in drawable})
    )


def as_svg(figure: Figure, name: str) -> str:
    """SVG to stand inside HTML; `name` keeps its ids apart from those of other charts on the page."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    own = rf"\g<1>{name}-"
    text = re.sub("<[^>]*>", lambda tag: re.sub(r'(\bid="|url\(#|href="#)', own, tag[0]), text)
    # The width in points would keep a phone from shrinking the chart; the view box has the shape.
    return re.sub(
        r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="([\d.]+)pt"', r'<svg \1\2style="width:\3pt"', text, count=1
    )


def as_png(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=200, facecolor="white")


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, Callable[[], Figure]]:
    """Loss, accuracy and learning rate by epoch; no accuracy where answers are not scores of classes."""
    epochs = [row["epoch"] + 1 for row in history]
    best = next((row["epoch"] + 1 for row in reversed(history) if row.get("is_best")), None)

    def lines(label: str, *series: tuple[str, str, str], percent: bool = False, log: bool = False) -> Figure:
        figure, axes = _axes("epoch", label)
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
    figure, axes = _axes("confidence, %", "accuracy, %", size=(HEIGHT + 0.6, HEIGHT + 0.4))
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
    figure, axes = _axes("answered, %", "wrong among the answered, %")
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
    figure, axes = _axes(label, "examples")
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
    figure, axes = _axes("epoch", label)
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
    figure, axes = _axes("", label, (width, 2.2 + legend))
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


def evidence(chart: Mapping[str, Any]) -> Figure:
    """The small chart of a finding: lines through (x, y), and levels they are compared with."""
    lines: Mapping[str, Sequence[tuple[float, float]]] = chart["lines"]
    told = len(lines) + len(chart["levels"])
    figure, axes = _axes(chart["x"], chart["y"], (WIDTH, 2.4 + (0.5 * LEGEND_INCHES * told if told > 1 else 0)))
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
    figure, axes = _axes("learning rate", "loss of a step", (PHONE, HEIGHT + 0.4))
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
    figure, axes = _axes("step", "loss of the batch", (PHONE, 2.6))
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


def search_history(rows: Sequence[Mapping[str, Any]], label: str, *, log: bool, lower_is_better: bool) -> Figure:
    """Scores of trials by number, fainter the shorter the training was, and the best so far.

    A row: `number`, `score`, `fidelity` from 0 to 1, and `best_score`, None where a trial has none on all the data.
    """
    figure, axes = _axes("trial", label, (NARROW, 2.5))
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
    figure, axes = _axes(clean_label(key, 30), label, (NARROW, 2.1))
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


def clean_label(text: str, longest: int = 40) -> str:
    """A name without signs that an SVG file must not hold, cut in its middle where it is too long to read: names of
    runs differ at their ends.

    >>> clean_label("a-long-name-1", 9)
    'a-lo…me-1'
    """
    plain = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    head = longest // 2
    return plain if len(plain) <= longest else f"{plain[:head]}…{plain[head + 1 - longest :]}"


def _axes(x: str, y: str, size: tuple[float, float] = (WIDTH, HEIGHT)) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
