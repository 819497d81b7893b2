"""One self-contained HTML file from a template: everything is escaped, nothing is fetched, no script is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from danlu.base.files import write_text

# Bidirectional controls could make a label show other text than it holds; other controls show nothing.
_SHOWN_CONTROLS = {code: "\ufffd" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}
_SHOWN_CONTROLS |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F), "\ufffd")


def write_page(path: Path, template: str, **facts: Any) -> None:
    """Render `templates/<template>.html` into a file."""
    environment = Environment(
        loader=PackageLoader("danlu.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, interval=interval, number=number, plain=plain, coded=coded, chart=Markup
    )
    write_text(path, environment.get_template(f"{template}.html").render(**facts))


def percent(value: float | None, digits: int = 2) -> str:
    """
    >>> percent(0.9131)
    '91.31%'
    """
    return "–" if value is None else f"{value:.{digits}%}"


def interval(pair: tuple[float, float], digits: int = 2) -> str:
    """
    >>> interval((0.9, 0.95))
    '90.00% to 95.00%'
    """
    return f"{pair[0]:.{digits}%} to {pair[1]:.{digits}%}"


def number(value: float) -> str:
    return f"{value:,}"


def plain(text: object) -> str:
    """A label, key or text with its control signs made visible.

    >>> plain("a\\u202eb")
    'a\ufffdb'
    """
    return str(text).translate(_SHOWN_CONTROLS)


def coded(text: object) -> Markup:
    """As `plain`, with what stands between backticks as code.

    >>> str(coded("`a < b` is set"))
    '<code>a &lt; b</code> is set'
    """
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(plain(text)))))  # noqa: S704 (escaped before)
