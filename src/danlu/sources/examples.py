"""What every source returns: items, labels, the class map, and all that was noticed on the way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from danlu.base.errors import DataError

Kind = Literal["images", "texts"]
PARTS = ("train", "validation", "test")
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Problem:
    """One example that cannot be used: its key and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Examples:
    """Labelled examples of one kind, in a stable order.

    `items`: image paths, a uint8 array (examples, H, W) or (examples, H, W, channels), or texts.
    `labels`: (examples,) int64 indices into `classes`. `parts`: the part of each example where the data says
    so, else empty texts. `problems`: examples left out of all these, each with its reason.
    """

    kind: Kind
    items: Sequence[Path] | Sequence[str] | np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    parts: tuple[str, ...]
    description: str
    groups: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, kept: np.ndarray, more_problems: Sequence[Problem] = ()) -> Examples:
        """The examples at these indices, in this order."""
        items = self.items[kept] if isinstance(self.items, np.ndarray) else [self.items[i] for i in kept]
        return Examples(
            self.kind,
            items,
            self.labels[kept],
            self.classes,
            tuple(self.keys[i] for i in kept),
            tuple(self.parts[i] for i in kept),
            self.description,
            tuple(self.groups[i] for i in kept) if self.groups is not None else None,
            self.problems + tuple(more_problems),
            self.notes,
            self.facts,
        )


@dataclass(frozen=True)
class ArrayPiece:
    """One array file: uint8 `pixels` (images, H, W) or (images, H, W, channels), a label name each, and its part."""

    part: str
    prefix: str
    pixels: np.ndarray
    names: Sequence[str]


def join_arrays(
    pieces: Sequence[ArrayPiece], *, where: str, kind_of_file: str, class_names: Sequence[str] | None = None
) -> Examples:
    """Pieces of one data set as examples; parts count as stated when there is more than one."""
    shapes = {piece.pixels.shape[1:] for piece in pieces}
    if len(shapes) > 1:
        raise DataError(f"{where} holds images of different sizes: {sorted(shapes)}")
    names = [name for piece in pieces for name in piece.names]
    classes = tuple(class_names) if class_names else class_map(names, where=where)
    states_parts = len({piece.part for piece in pieces}) > 1
    return Examples(
        kind="images",
        items=np.concatenate([piece.pixels for piece in pieces]),
        labels=index_labels(names, classes),
        classes=classes,
        keys=tuple(f"{piece.prefix}/{i:05d}" for piece in pieces for i in range(len(piece.names))),
        parts=tuple(piece.part if states_parts else "" for piece in pieces for _ in piece.names),
        description=f"{kind_of_file} with {len(names):,} images of {shapes.pop()} in {len(classes)} classes",
    )


def class_map(names: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The classes in a stable order: numbers by value, names by their text.

    >>> class_map(["10", "2", "2"], where="a.csv")
    ('2', '10')
    """
    classes = sorted(set(names), key=_natural_key)
    if not classes:
        raise DataError(f"{where} holds no labelled example", hint="a classifier needs at least two classes")
    if len(classes) == 1:
        raise DataError(
            f"{where} has one class only: `{classes[0]}`",
            hint="a classifier needs at least two classes; for images, one sub-folder a class",
        )
    return tuple(classes)


def index_labels(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(examples,) int64 indices of the names in `classes`."""
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in names], dtype=np.int64)


def look_alike_classes(classes: Sequence[str]) -> list[str]:
    """A note for classes that differ only in case, such as `Cat` and `cat`; they are not merged."""
    folded = Counter(name.casefold() for name in classes)
    groups = [[c for c in classes if c.casefold() == name] for name, count in folded.items() if count > 1]
    return [f"classes {' and '.join(f'`{c}`' for c in group)} differ only in case and stay apart" for group in groups]


def _natural_key(name: str) -> tuple[object, ...]:
    pieces = [piece for piece in re.split(r"(\d+)", name) if piece]
    return (tuple((0, int(p), p) if p.isascii() and p.isdigit() else (1, 0, p) for p in pieces), name)
