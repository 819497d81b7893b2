"""Examples unlike the others, by measures a person can check: each is named with the value and what is usual."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from danlu.data.near_images import FLATTEST

FAR = 6.0
# The median absolute deviation of a normal distribution, so that distances count in standard deviations.
NORMAL_MAD = 0.6745
LONG_ENOUGH = 20
REPEATED = 0.15
OTHER_SCRIPT = 0.05


def unusual_images(thumbnails: np.ndarray) -> list[tuple[int, str]]:
    """(index, reason) of blank pictures and of those far from the others in brightness or contrast, farthest first.

    `thumbnails`: (N, 256) grey values of 0 to 255. Far is six robust standard deviations from the median.

    >>> pictures = np.random.default_rng(0).normal(128, 40, (200, 256)); pictures[5] = 7
    >>> unusual_images(pictures)[0]
    (5, 'blank: every part has a brightness of 7')
    """
    brightness, contrast = thumbnails.mean(1), thumbnails.std(1)
    blank = np.flatnonzero(contrast < FLATTEST)
    told = [(int(i), f"blank: every part has a brightness of {brightness[i]:.0f}") for i in blank]
    far = _far({"brightness": brightness, "contrast": contrast}, least_spread=3.0)
    return told + [row for row in far if contrast[row[0]] >= FLATTEST]


def unusual_texts(texts: Sequence[str]) -> list[tuple[int, str]]:
    """(index, reason) of texts without a letter, of one repeated sign, of another script, or of an unusual length.

    >>> unusual_texts(["好吃"] * 30 + ["？？？"])
    [(30, 'no letter or digit')]
    """
    told: list[tuple[int, str]] = []
    scripts = [_main_script(text) for text in texts]
    shares = {script: scripts.count(script) / max(1, len(texts)) for script in set(scripts)}
    for index, (text, script) in enumerate(zip(texts, scripts, strict=True)):
        if not script:
            if not any(map(str.isalnum, text)):
                told.append((index, "no letter or digit"))
        elif len(text) >= LONG_ENOUGH and len(set(text)) <= REPEATED * min(len(text), 100):
            told.append((index, f"{len(set(text))} different signs in {len(text):,}"))
        elif shares[script] < OTHER_SCRIPT and len(text) >= LONG_ENOUGH:
            told.append((index, f"mostly {script.title()} letters, as {shares[script]:.1%} of the texts"))
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    named = {index for index, _ in told}
    far = _far({"length in signs": lengths}, least_spread=0.2, logarithmic=True)
    return told + [row for row in far if row[0] not in named]


def _far(measures: dict[str, np.ndarray], *, least_spread: float, logarithmic: bool = False) -> list[tuple[int, str]]:
    """The least spread keeps nearly equal values, such as the lengths of post codes, from calling a step of one far."""
    found: list[tuple[float, int, str]] = []
    for name, values in measures.items():
        scaled = np.log1p(values) if logarithmic else values
        middle = float(np.median(scaled))
        spread = max(float(np.median(np.abs(scaled - middle))) / NORMAL_MAD, least_spread)
        distance = np.abs(scaled - middle) / spread
        low, high = np.quantile(values, [0.025, 0.975])
        found += [
            (-float(distance[i]), int(i), f"{name} {values[i]:,.0f} (95 % lie from {low:,.0f} to {high:,.0f})")
            for i in np.flatnonzero(distance > FAR)
        ]
    farthest: dict[int, str] = {}
    for _, index, reason in sorted(found):
        farthest.setdefault(index, reason)
    return list(farthest.items())


def _main_script(text: str) -> str:
    """The script of most of the first 50 letters by their Unicode names, such as `CJK`; empty without one."""
    letters = [sign for sign in text[:200] if sign.isalpha()][:50]
    names = [unicodedata.name(sign, "?").split()[0] for sign in letters]
    return max(set(names), key=names.count) if names else ""
