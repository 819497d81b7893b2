"""The charts of a page, drawn by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.base import log
from danlu.base.files import make_folder
from danlu.reporting import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_charts(
    drawn: Mapping[str, Callable[[], Figure] | None], png_folder: Path | None = None, names: Sequence[str] = ()
) -> dict[str, str]:
    """Each chart as SVG; also as PNG into a folder, where one is given. `names`: the users' words in the charts."""
    charts: dict[str, str] = {}
    with drawing.style():
        for name, draw in drawn.items():
            charts[name] = ""
            if draw is not None:
                figure = draw()
                charts[name] = drawing.as_svg(figure, name)
                if png_folder is not None:
                    make_folder(png_folder)
                    drawing.as_png(figure, png_folder / f"{name}.png")
    if png_folder is not None:
        log.say(f"charts: {png_folder}")
        missing = drawing.signs_without_a_font(names)
        if missing:
            hint = "install one with Chinese signs, such as Noto Sans CJK"
            log.warn(
                f"the PNG charts lack {len(missing)} signs that no installed font has, first: {missing[0]}; {hint}"
            )
    return charts
