"""Numbers that describe prepared data: how many, how large, how long, how balanced, how bright."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from danlu.data.decode import look_at_headers
from danlu.data.prepare import PreparedData
from danlu.inputs.images import ImageRecipe

BINS = 40
SIZES_SHOWN = 10
QUANTILES = (0.0, 0.025, 0.25, 0.5, 0.75, 0.975, 1.0)


def describe(prepared: PreparedData) -> dict[str, Any]:
    """Facts of the data as plain values, for JSON and for a page.

    `classes`: a row a class with its examples by part, its share and its balanced weight N / (classes × count) over
    train. Images: sizes, channels, mean and standard deviation a channel on the 0–1 scale over train. Texts: lengths
    in signs and in tokens.
    """
    facts: dict[str, Any] = {
        "kind": prepared.kind,
        "examples": len(prepared.examples),
        "unreadable": len(prepared.examples.problems),
        "description": prepared.examples.description,
        "notes": list(prepared.notes),
        "parts": {name: len(part) for name, part in prepared.parts.items()},
        "classes": _classes(prepared),
    }
    if isinstance(prepared.recipe, ImageRecipe):
        return facts | {"images": _images(prepared)}
    return facts | {"texts": _texts(prepared)}


def histogram(values: Sequence[float] | np.ndarray) -> dict[str, list[float]]:
    """Quantiles, and counts between edges that grow by equal factors where values span more than a decade.

    >>> histogram([1, 1, 1])["counts"]
    [3]
    """
    data = np.asarray(values, dtype=float)
    low, high = max(1.0, data.min()), max(1.0, data.max())
    if low == high:
        edges = np.array([low, low + 1])
    elif high / low > 10:
        edges = np.geomspace(low, high, BINS + 1)
    else:
        edges = np.linspace(low, high, BINS + 1)
    if (data == np.round(data)).all():
        edges = np.unique(np.round(edges))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    counts = np.histogram(np.maximum(data, 1), edges)[0]
    return {
        "counts": counts.tolist(),
        "edges": [float(edge) for edge in edges],
        "quantiles": [float(value) for value in np.quantile(data, QUANTILES)],
    }


def _classes(prepared: PreparedData) -> list[dict[str, Any]]:
    number = len(prepared.classes)
    parts = {
        part: np.bincount(prepared.examples.labels[indices], minlength=number)
        for part, indices in _indices(prepared).items()
    }
    train = parts.get("train", np.zeros(number, np.int64))
    total = np.bincount(prepared.examples.labels, minlength=number)
    present = max(1, int((train > 0).sum()))
    return [
        {
            "name": name,
            **{part: int(counts[i]) for part, counts in parts.items()},
            "total": int(total[i]),
            "share": float(total[i] / max(1, total.sum())),
            "weight": float(train.sum() / (present * train[i])) if train[i] else None,
        }
        for i, name in enumerate(prepared.classes)
    ]


def _indices(prepared: PreparedData) -> dict[str, np.ndarray]:
    return {name: part.indices for name, part in prepared.parts.items()}


def _images(prepared: PreparedData) -> dict[str, Any]:
    recipe = prepared.recipe
    headers = look_at_headers(prepared.examples.items, sample=len(prepared.examples))
    of_all = len(prepared.examples) // max(1, len(headers))  # an array has one header for all its images
    sizes = Counter((header.width, header.height) for header in headers)
    return {
        "sizes": [
            {"width": width, "height": height, "count": count * of_all}
            for (width, height), count in sizes.most_common(SIZES_SHOWN)
        ],
        "different_sizes": len(sizes),
        "grey": sum(header.is_gray for header in headers) * of_all,
        "longest_side": histogram([max(header.width, header.height) for header in headers]),
        "read_as": list(recipe.shape) if isinstance(recipe, ImageRecipe) else [],
        "mean": list(recipe.mean) if isinstance(recipe, ImageRecipe) else [],
        "std": list(recipe.std) if isinstance(recipe, ImageRecipe) else [],
    }


def _texts(prepared: PreparedData) -> dict[str, Any]:
    tokens = [len(row) for part in prepared.parts.values() for row in part.inputs]
    return {
        "signs": histogram([len(str(text)) for text in prepared.examples.items]),
        "tokens": histogram(tokens),
        "tokens_are": getattr(prepared.recipe, "tokens", ""),
        "vocabulary": getattr(prepared.recipe, "vocabulary_size", 0),
        "read_up_to": getattr(prepared.recipe, "max_length", 0),
    }
