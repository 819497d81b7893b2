"""What the checks look at: facts of every example, gathered once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from danlu.checks.finding import Case

MOST_NAMED = 4


@dataclass(frozen=True)
class DataEvidence:
    """Facts of (examples,) examples in one order.

    `labels`: int64 indices into `classes`. `parts`: the part of each example. `stated`: the parts the data itself
    states; the others were drawn. `expected`: the parts that should have examples. `copies`: equal numbers for equal
    content. `near_pairs`: (pairs, 2) int64 indices of examples that are nearly equal, equal ones not among them.
    `unusual`: examples unlike the others, each with the reason. `unreadable`: examples that are in none of these
    arrays. `label_probabilities`: (examples, classes) from models that have not seen the example, NaN where none could
    be made, or None. `suspects`: the examples whose label these contradict, the least believable first.
    """

    kind: str
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    labels: np.ndarray
    parts: np.ndarray
    stated: frozenset[str] = frozenset()
    expected: tuple[str, ...] = ()
    copies: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    near_pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    unusual: tuple[tuple[int, str], ...] = ()
    unreadable: tuple[Case, ...] = ()
    skips_unreadable: bool = False
    label_probabilities: np.ndarray | None = None
    suspects: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def part_names(self) -> list[str]:
        """The parts that have examples, in the order train, validation, test."""
        there = set(self.parts.tolist())
        return [part for part in ("train", "validation", "test") if part in there]

    def counts(self, part: str) -> np.ndarray:
        """(classes,) how many examples of each class are in a part."""
        return np.bincount(self.labels[self.parts == part], minlength=len(self.classes))

    def groups_of_copies(self) -> list[np.ndarray]:
        """Indices of examples with equal content, one array for each content that occurs more than once."""
        order = np.argsort(self.copies, kind="stable")
        starts = np.flatnonzero(np.diff(self.copies[order])) + 1
        return [group for group in np.split(order, starts) if len(group) > 1]

    def name(self, index: int) -> str:
        """How a case is told: its part and class."""
        return f"{self.parts[index]} · {self.classes[self.labels[index]]}"

    def names(self, indices: np.ndarray, sign: str) -> str:
        """Several examples of one case, with a sign between them; many are counted by part and class."""
        names = [self.name(index) for index in indices.tolist()]
        if len(names) > MOST_NAMED:
            names = [f"{count:,} × {name}" for name, count in Counter(names).most_common()]
        return f" {sign} ".join(names)
