"""The table of layers: what each one's gradients, weights and activations were like over a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLUMNS = ("gradient_norm", "weight_norm", "update_ratio", "dead_share", "activation_mean", "activation_std")


def layer_table(watched: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each layer, in the order of the model: name, kind, parameters, and of each column the median over the
    steps that were looked at and its course over the epochs. None where a layer has no such number.
    """
    if not watched:
        return []
    rows = []
    for place, layer in enumerate(watched[0]["layers"]):
        row: dict[str, Any] = {name: layer[name] for name in ("name", "kind", "parameters")}
        for column in COLUMNS:
            told = [(step["epoch"], step["layers"][place][column]) for step in watched]
            values = [value for _, value in told if value is not None]
            row[column] = float(f"{np.median(values):.4g}") if values else None
            row[f"{column}_by_epoch"] = _by_epoch(told)
        rows.append(row)
    return rows


def _by_epoch(told: Sequence[tuple[int, float | None]]) -> list[list[float]]:
    """[epoch from 1, mean of the steps looked at], epochs without one left out."""
    table: dict[int, list[float]] = {}
    for epoch, value in told:
        if value is not None:
            table.setdefault(epoch, []).append(value)
    return [[epoch + 1, float(f"{np.mean(values):.4g}")] for epoch, values in table.items()]
