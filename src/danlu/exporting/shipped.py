"""The table that is printed and kept: what each exported model weighs, scores and takes beside the trained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from danlu.base.files import write_json
from danlu.base.machine import environment
from danlu.exporting.engines import BATCH, Measured


@dataclass(frozen=True)
class Shipped:
    """The trained model, or what was made of it. `accuracy`: on validation examples, the same for all rows."""

    name: str
    size_bytes: int
    accuracy: float
    speed: Measured


def table(rows: Sequence[Shipped]) -> list[str]:
    """Lines for a terminal."""
    width = max(len(row.name) for row in rows)
    head = f"  {'model':<{width}} {'runs on':<12} {'threads':>7} {'MB':>7} {'accuracy':>9}"
    lines = [f"{head} {'ms for one':>11} {f'a second, by {BATCH}':>16}"]
    for row in rows:
        threads = str(row.speed.threads) if row.speed.threads else "-"
        lines.append(
            f"  {row.name:<{width}} {row.speed.engine:<12} {threads:>7} {row.size_bytes / 1e6:>7.2f}"
            f" {row.accuracy:>9.2%} {row.speed.p50_ms:>11.3f} {row.speed.per_second:>16,.0f}"
        )
    return lines


def write_table(path: Path, shipped: Sequence[Shipped], ways: Sequence[Measured] = ()) -> None:
    """`ways`: all that were measured, where there was a choice."""
    content = {"format": 1, "batch": BATCH, "machine": environment(), "shipped": [asdict(row) for row in shipped]}
    write_json(path, {**content, "ways": [asdict(row) for row in ways]})
