"""What an export has made: the table that is printed and kept, and the lines that tell of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from danlu.base.files import write_json
from danlu.base.machine import environment
from danlu.exporting.engines import BATCH, Measured
from danlu.exporting.parity import Parity
from danlu.exporting.variants import Change

HARDLY_SMALLER = 0.9


@dataclass(frozen=True)
class Shipped:
    """The trained model, or what was made of it. `accuracy`: on validation examples, the same for all rows."""

    name: str
    size_bytes: int
    accuracy: float
    speed: Measured


@dataclass(frozen=True)
class Made:
    """What was proven and measured. `validation`: the number of examples the accuracies are of. `changes`: by the
    variants beside fp32. `default`: which variant answers, and `why`; empty where there is one."""

    parity: Parity
    shipped: tuple[Shipped, ...]
    validation: int
    changes: Mapping[str, Change] = field(default_factory=dict)
    default: str = ""
    why: str = ""

    def told(self) -> list[str]:
        ways = self.parity.ways
        gap = max(way.largest_gap for way in ways)
        lines = [
            *table(self.shipped),
            f"  accuracy: on {self.validation:,} validation examples"
            + (" from which no range was taken" if self.changes else ""),
            f"  {self.shipped[1].name} answers {ways[0].examples:,} held-out examples as the trained model does, in"
            f" {len(ways)} ways: probabilities differ by up to {gap:.1g}",
        ]
        size = {row.name: row.size_bytes for row in self.shipped}
        for name, change in self.changes.items():
            if size[name] > HARDLY_SMALLER * size["fp32"]:
                lines.append(f"  {name} is hardly smaller than fp32: what weighs most stays as it is")
            lines.append(
                f"  {name} gives {change.same_labels:,} of {change.examples:,} the same label and changes accuracy by"
                f" {change}"
            )
        return [*lines, f"  {self.default} answers by default: {self.why}"] if self.changes else lines


def table(rows: Sequence[Shipped]) -> list[str]:
    """Lines for a terminal."""
    width = max(len(row.name) for row in rows)
    head = f"  {'model':<{width}} {'runs on':<12} {'threads':>7} {'MB':>7} {'accuracy':>9}"
    head += f" {'ms for one':>11} {f'a second, by {BATCH}':>16}"
    return [
        head,
        *(
            f"  {row.name:<{width}} {row.speed.engine:<12} {row.speed.threads:>7} {row.size_bytes / 1e6:>7.2f}"
            f" {row.accuracy:>9.2%} {row.speed.p50_ms:>11.3f} {row.speed.per_second:>16,.0f}"
            for row in rows
        ),
    ]


def write_table(path: Path, made: Made, ways: Sequence[Measured] = ()) -> None:
    """`ways`: all that were measured, where there was a choice."""
    shipped = [asdict(row) for row in made.shipped]
    content = {"format": 1, "batch": BATCH, "machine": environment(), "validation_examples": made.validation}
    write_json(path, {**content, "shipped": shipped, "ways": [asdict(row) for row in ways]})
