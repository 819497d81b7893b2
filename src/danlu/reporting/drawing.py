"""How all charts look: SVG whose text stays text, so that the reader's own fonts show any language; PNG on request.

Nothing here touches matplotlib's global state.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font

TRAIN, VALIDATION, PLAIN, WARN = "#2563eb", "#d97706", "#64748b", "#b91c1c"
SERIES = (TRAIN, VALIDATION, "#059669", "#7c3aed", "#be185d", "#0891b2", "#65a30d", "#334155")
WIDTH, HEIGHT = 4.8, 3.0
PHONE = 3.7  # still readable where a phone shrinks it
NARROW, WIDE = 3.25, 6.75  # a phone shows the one as it is; a page for a desk the other with one beside it, or three
LEGEND_POINTS, LEGEND_INCHES = 7.5, 0.16  # of a line; a phone's 9 pixels are 7 points
LABEL_INCHES = 0.066  # of a terminal column at 8 points, measured on wide fonts
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


def clean_label(text: str, longest: int = 40) -> str:
    """A name without signs that an SVG file must not hold, cut in its middle where it is too long to read: names of
    runs differ at their ends.

    >>> clean_label("a-long-name-1", 9)
    'a-lo…me-1'
    """
    plain = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    head = longest // 2
    return plain if len(plain) <= longest else f"{plain[:head]}…{plain[head + 1 - longest :]}"


def axes_of(x: str, y: str, size: tuple[float, float] = (WIDTH, HEIGHT)) -> tuple[Figure, Any]:
    """A figure with one pair of axes, named `x` and `y`; `size` in inches."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
