"""Which example is in which part: stratified, groups, equal and nearly equal examples kept together, written as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from danlu.base.errors import DataError
from danlu.base.files import write_csv
from danlu.checks.near_copies import connected
from danlu.sources.examples import PARTS, Examples

HEADER = ["key", "label", "part", "sha256"]
HASH_LETTERS = 32
DROPPED = "dropped"


@dataclass(frozen=True)
class ManifestRow:
    """One example: its key in the source, its class name, its part, the start of its content's SHA-256."""

    key: str
    label: str
    part: str
    sha256: str


@dataclass(frozen=True)
class Split:
    """`part_of`: the part of each example. `notes`: what was decided and what was noticed. `near_pairs`: (pairs, 2)
    indices of nearly equal examples, None where they were not asked for."""

    part_of: tuple[str, ...]
    notes: tuple[str, ...]
    near_pairs: np.ndarray | None = None

    def indices(self, part: str) -> np.ndarray:
        return np.flatnonzero(np.array(self.part_of) == part)


def split_examples(
    examples: Examples,
    hashes: Sequence[str],
    *,
    shares: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    earlier: Sequence[ManifestRow] = (),
    drop_leaks: bool = False,
    near: Callable[[], np.ndarray] | None = None,
) -> Split:
    """Give every example a part.

    Parts the data states are kept; a part it lacks is cut from train. Examples with equal content or equal group
    go to one part, and so do those that are nearly equal: `near` gives their (pairs, 2) indices, and is asked only when
    parts are drawn. `earlier` is the manifest of a previous run on this data: what it placed stays where it was.
    With `drop_leaks`, an example whose content also stands in a later part (train, validation, test) is `dropped`.
    """
    given: np.ndarray = np.array(examples.parts, dtype=object)
    notes: list[str] = []
    stated = [part for part in PARTS if (given == part).any()]
    if stated:
        if "train" not in stated:
            raise DataError(f"the data states the parts {', '.join(stated)} but no train part")
        targets = _targets_beside(stated, shares)
        notes.append(f"parts as the data states them: {', '.join(stated)}")
        if len(targets) > 1:
            cut = " and ".join(f"{share:.1%} as {part}" for part, share in targets.items() if part != "train")
            notes.append(f"of train, {cut}, stratified, seed {seed}")
    else:
        targets = {part: share for part, share in zip(PARTS, shares, strict=True) if share > 0}
        told = ", ".join(f"{share:.0%} {part}" for part, share in targets.items())
        notes.append(f"no parts in the data: {told}, stratified, seed {seed}")
    part_of = given.copy()
    open_ = np.flatnonzero((given == "") | (given == "train")) if stated else np.arange(len(examples))
    known = {row.sha256: row.part for row in earlier if row.part in targets}
    placed: np.ndarray = np.array([known.get(hashes[int(i)][:HASH_LETTERS], "") for i in open_], dtype=object)
    pairs = near() if near is not None and len(targets) > 1 and (placed == "").any() else None
    units = _units(hashes, examples.groups)
    if pairs is not None and len(pairs):
        largest = round(min(targets.values()) * len(open_))
        units, counts = _dealt_together(units, pairs, examples.labels, largest, len(targets))
        notes += counts
    part_of_unit = {units[i]: part for i, part in zip(open_, placed, strict=True) if part}
    placed = np.array([p or part_of_unit.get(units[i], "") for i, p in zip(open_, placed, strict=True)], dtype=object)
    if (placed != "").any():
        notes.append(f"{int((placed != '').sum()):,} examples stay in the part an earlier run gave them")
    part_of[open_] = placed
    new = open_[placed == ""]
    if len(new):
        part_of[new] = _deal(units[new], examples.labels[new], targets, seed)
    if drop_leaks:
        notes += _drop_leaks(part_of, hashes)
    return Split(tuple(str(part) for part in part_of), tuple(notes), pairs)


def write_manifest(path: Path, rows: Sequence[ManifestRow]) -> None:
    write_csv(path, HEADER, ((row.key, row.label, row.part, row.sha256) for row in rows))


def read_manifest(path: Path) -> list[ManifestRow]:
    """The rows of a manifest. Raises `DataError` when the file is not one."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            if next(reader, None) != HEADER:
                raise DataError(f"`{path}` is no split manifest: its first line is not `{','.join(HEADER)}`")
            return [ManifestRow(*row) for row in reader]
    except (OSError, UnicodeDecodeError, TypeError, csv.Error) as error:
        raise DataError(f"the split manifest `{path}` cannot be read: {error}") from error


def manifest_rows(examples: Examples, hashes: Sequence[str], split: Split) -> list[ManifestRow]:
    return [
        ManifestRow(key, examples.classes[label], part, digest[:HASH_LETTERS])
        for key, label, part, digest in zip(examples.keys, examples.labels, split.part_of, hashes, strict=True)
    ]


def _targets_beside(stated: Sequence[str], shares: Sequence[float]) -> dict[str, float]:
    """How the stated train part is cut: `validation` as its share of train + validation, `test` as its whole share."""
    train, validation, test = shares
    cut: dict[str, float] = {}
    if "test" not in stated and test > 0:
        cut["test"] = test
    if "validation" not in stated and validation > 0:
        rest = 1 - cut.get("test", 0)
        cut["validation"] = rest * validation / (train + validation)
    return {"train": 1 - sum(cut.values()), **cut}


def _dealt_together(
    units: np.ndarray, pairs: np.ndarray, labels: np.ndarray, largest: int, num_parts: int
) -> tuple[np.ndarray, list[str]]:
    """Units joined by near pairs, and the sentences that count the examples.

    Examples are not joined to units of more than `largest` examples, which would fill a part alone, nor where a class
    would be left with fewer units than there are parts, and so be missing in one.
    """
    number = int(units.max()) + 1
    between = units[pairs]
    group = connected(between, number)[units]
    sizes = np.bincount(group)
    too_large = sizes > largest
    for label in np.unique(labels):
        own = labels == label
        if len(np.unique(group[own])) < num_parts <= len(np.unique(units[own])):
            too_large[group[own]] = True
    is_apart = too_large[group[pairs[:, 0]]] & (between[:, 0] != between[:, 1])
    apart, tied = len(np.unique(pairs[is_apart])), len(np.unique(pairs[~is_apart]))
    notes = []
    if tied:
        notes.append(f"{tied:,} examples are nearly equal to others, and go with these into one part")
    if apart:
        notes.append(
            f"{apart:,} examples are nearly equal to so many that a part or a class would not be left with enough:"
            " they are dealt one by one"
        )
    return connected(between[~is_apart], number)[units], notes


def _units(hashes: Sequence[str], groups: Sequence[str] | None) -> np.ndarray:
    """(examples,) a number for each set of examples tied together by equal content or an equal, non-empty group."""
    ties = [_equal(hashes)]
    if groups is not None:
        named = [index for index, name in enumerate(groups) if name]
        ties.append(np.array(named, dtype=np.int64)[_equal([groups[index] for index in named])])
    return connected(np.concatenate(ties), len(hashes))


def _equal(names: Sequence[str]) -> np.ndarray:
    """(pairs, 2) indices: each later one of equal names with the first."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(name, index), index) for index, name in enumerate(names)]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)


def _deal(units: np.ndarray, labels: np.ndarray, targets: dict[str, float], seed: int) -> np.ndarray:
    """Deal whole units to the parts, class by class, so that each part gets its share of each class."""
    rng = np.random.default_rng([seed, 20_170])
    names = list(targets)
    ids, first, inverse, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    part_of_unit = np.empty(len(ids), dtype=object)
    unit_labels = labels[first]
    for label in np.unique(unit_labels):
        members = rng.permutation(np.flatnonzero(unit_labels == label))
        total = sizes[members].sum()
        wanted = {name: targets[name] * total for name in names}
        for name in names:  # one unit a part first, so that no class is missing anywhere
            wanted[name] = max(wanted[name], 1.0)
        filled = dict.fromkeys(names, 0)
        for member in members[np.argsort(-sizes[members], kind="stable")]:
            name = max(names, key=lambda n: (filled[n] == 0, wanted[n] - filled[n]))
            part_of_unit[member] = name
            filled[name] += sizes[member]
    dealt: np.ndarray = part_of_unit[inverse]
    return dealt


def _drop_leaks(part_of: np.ndarray, hashes: Sequence[str]) -> list[str]:
    """Take examples out of a part when a later one holds the same content; the sentences that count them."""
    last: dict[str, int] = {}
    order = {part: place for place, part in enumerate(PARTS)}
    for digest, part in zip(hashes, part_of, strict=True):
        last[digest] = max(last.get(digest, 0), order[part])
    notes = []
    for part in PARTS[:-1]:
        leaked = [i for i, digest in enumerate(hashes) if part_of[i] == part and last[digest] > order[part]]
        if leaked:
            part_of[leaked] = DROPPED
            notes.append(f"left out of {part}: {len(leaked):,} examples whose content stands in a later part too")
    return notes
