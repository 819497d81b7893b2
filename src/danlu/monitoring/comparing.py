"""The verb `compare` of the monitor: which of two models in a journal is better."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from danlu.base.errors import ConfigError, DataError
from danlu.base.journal import Journal
from danlu.monitoring.monitor import Key, Places, open_journal
from danlu.monitoring.rows import Row, row_of
from danlu.monitoring.timeline import Timeline
from danlu.prediction.reference import Reference
from danlu.scores.anytime import DECIDES, PairedTest, SharesTest

MOST_PENDING = 100_000  # answers that wait for the other model's to the same input
TOLD = 5
MOST_NAMED = 20
COLUMNS = (("id", "编号"), ("label", "标签"))
ROLES = {":answers": False, ":shadow": True}  # after the name of a model, which may have been both
Pair = tuple[Key, Key]  # a shadow second


@dataclass(frozen=True)
class ArmFound:
    """One model of the two. `accuracy`: of the `labelled` answers; None where there are none."""

    model: str
    is_shadow: bool
    answers: int
    labelled: int
    accuracy: float | None
    mean_confidence: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class ArmsCompared:
    """`better`: None as long as nothing is decided. `e_value`: the highest so far; 20 decides, and errs in at most 5 of
    100 comparisons of equal models, however often one looks."""

    arms: tuple[ArmFound, ArmFound]
    better: str | None
    e_value: float | None
    decision: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"format": 1, **asdict(self)}


def compare_arms(places: Places, labels: str | Path | None = None, models: Sequence[str] = ()) -> ArmsCompared:
    """Compare the two models of a journal: one with its shadow by answers to the same inputs, two that share the
    requests by their shares of right answers.

    `labels`: a CSV file with the columns `id`, of an answer, and `label`, what is right. `models`: their names or the
    beginnings of these, where the journal has more than two; with `:answers` or `:shadow`, what they were. Of several
    pairs that answered the same inputs, the one with most labels is taken, and of these the latest. The labels have to
    come without regard to the answers, and new ones at the end of the file: the promise of the test is for looking
    again with more of them.
    Raises `ConfigError` and `DataError`.

    >>> compare_arms("journal", "labels.csv").better     # doctest: +SKIP
    'photos@3f1c0a9b7d52'
    """
    right = _read_labels(Path(labels)) if labels is not None else {}
    keys, others = _arms(open_journal(places), models, right)
    _check_labels(right, open_journal(places), keys)
    comparing = _Paired(keys, right) if keys[1][1] else _Shared(keys, right)
    for content in open_journal(places).rows():
        row = row_of(content)
        if row is not None and (row.model, row.is_shadow) in keys:
            comparing.add(row)
    comparing.judge()
    found = comparing.result()
    return replace(found, notes=(*found.notes, *others))


class _Comparing:
    """What both ways have in common: numbers of each arm, and labels."""

    def __init__(self, keys: tuple[Key, Key], right: Mapping[str, str], verdict: PairedTest | SharesTest) -> None:
        self._keys, self._right, self._verdict = keys, right, verdict
        self._timelines = (Timeline(), Timeline())
        self._labelled, self._correct = [0, 0], [0, 0]
        self._answers: dict[str, dict[int, str]] = {}
        self._repeated = 0

    def add(self, row: Row) -> None:
        which = self._keys.index((row.model, row.is_shadow))
        self._timelines[which].add(row)
        if row.id in self._right:
            own = self._answers.setdefault(row.id, {})
            self._repeated += which in own
            own.setdefault(which, row.label)

    def judge(self) -> None:
        """Take the labels in the order in which they stand: what is added at the end changes nothing before it, so
        looking again is looking further along the same way. An id counts once for each model."""
        for id, label in self._right.items():
            own = {which: answer == label for which, answer in self._answers.get(id, {}).items()}
            for which, is_right in own.items():
                self._labelled[which] += 1
                self._correct[which] += is_right
            self.take(own)

    def take(self, right: Mapping[int, bool]) -> None:
        """Which of the models had an answer to the next labelled input, and whether it was right."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        missing = len(self._right) - len(self._answers)
        told = []
        if missing:
            told.append(f"{missing:,} of {len(self._right):,} labels are of answers that these models did not give")
        if self._repeated:
            told.append(f"{self._repeated:,} answers have an id that was answered before, and are not counted")
        return told

    def result(self) -> ArmsCompared:
        arms = tuple(self._arm(which) for which in (0, 1))
        better = None if self._verdict.better is None else self._keys[self._verdict.better][0]
        e_value = self._verdict.highest if any(self._labelled) else None
        return ArmsCompared((arms[0], arms[1]), better, e_value, _decision(better, e_value), tuple(self.notes()))

    def _arm(self, which: int) -> ArmFound:
        (model, is_shadow), whole = self._keys[which], self._timelines[which].whole()
        labelled = self._labelled[which]
        return ArmFound(
            model,
            is_shadow,
            whole.answers,
            labelled,
            self._correct[which] / labelled if labelled else None,
            whole.mean_confidence if whole.answers else 0.0,
            whole.latency(0.5),
            whole.latency(0.99),
        )


class _Paired(_Comparing):
    """A model and its shadow, which answer the same inputs."""

    def __init__(self, keys: tuple[Key, Key], right: Mapping[str, str]) -> None:
        self._test = PairedTest()
        super().__init__(keys, right, self._test)
        self._pending: dict[str, tuple[int, str]] = {}
        self._both = self._alike = 0

    def add(self, row: Row) -> None:
        super().add(row)
        which = self._keys.index((row.model, row.is_shadow))
        other = self._pending.pop(row.id, None)
        if other is None or other[0] == which:
            self._pending[row.id] = (which, row.label)
            if len(self._pending) > MOST_PENDING:
                del self._pending[next(iter(self._pending))]
            return
        self._both += 1
        self._alike += other[1] == row.label

    def take(self, right: Mapping[int, bool]) -> None:
        if len(right) == 2:
            self._test.add(first_right=right[0], second_right=right[1])

    def notes(self) -> list[str]:
        alike = f", and are alike in {self._alike / self._both:.2%}" if self._both else ""
        return [f"both answered the same {self._both:,} inputs{alike}", *super().notes()]


class _Shared(_Comparing):
    """Two models, each with requests of its own."""

    def __init__(self, keys: tuple[Key, Key], right: Mapping[str, str]) -> None:
        self._test = SharesTest()
        super().__init__(keys, right, self._test)

    def take(self, right: Mapping[int, bool]) -> None:
        for which, is_right in right.items():
            self._test.add(which, is_right)


def _decision(better: str | None, e_value: float | None) -> str:
    if e_value is None:
        return "without labels nobody knows which is better: `--labels FILE` with the columns id and label"
    if better is None:
        return f"not decided: the highest e-value is {e_value:.3g}, {DECIDES:g} decides; one may look again at any time"
    return f"{better} is better: e-value {e_value:.3g}, {DECIDES:g} decides"


@dataclass
class _Together:
    """The inputs that both of a pair answered. `first`, `last`: which rows of the journal, counted."""

    inputs: int = 0
    labelled: int = 0
    first: int = 0
    last: int = 0


def _arms(journal: Journal, models: Sequence[str], right: Mapping[str, str]) -> tuple[Pair, list[str]]:
    """The two to compare, a shadow second, and what else could be."""
    counts, together = _answered(journal, right)
    of_names = list(dict.fromkeys(models))
    pairs = [pair for pair in map(_ordered, combinations(counts, 2)) if not pair[0][1] and _are_named(pair, of_names)]
    there = sorted((pair for pair in pairs if pair in together), key=lambda pair: _weight(together[pair]))
    chosen, rest = there[-1:] or pairs, there[:-1]
    if len(chosen) != 1 or len(of_names) > 2 or any(_is_like(together[one], together[chosen[0]]) for one in rest):
        told = ", ".join(f"`{_spoken(key)}`" for key in sorted(counts)) or "none"
        same = "; the same inputs answered " + " and ".join(map(_told, there)) if len(there) > 1 else ""
        raise ConfigError(
            f"two models are compared, at most one of them a shadow; the journal has {told}{same}",
            hint="`--model NAME` twice chooses two, `--model NAME:answers` or `NAME:shadow` what it was;"
            " `danlu serve A B --split 90/10` or `--shadow B` asks both",
        )
    first, second = chosen[0] if chosen[0][1][1] else sorted(chosen[0], key=lambda key: -counts[key])
    return (first, second), [_other(pair, together[pair]) for pair in reversed(rest)]


def _is_like(one: _Together, best: _Together) -> bool:
    """Whether nothing says that the other is meant: it was at the same time, but for workers that took a new bundle a
    little later than others, and no labels are for it alone."""
    overlap = min(one.last, best.last) - max(one.first, best.first)
    is_beside = overlap > min(one.last - one.first, best.last - best.first) / 2
    return is_beside and (one.labelled > 0 or best.labelled == 0)


def _answered(journal: Journal, right: Mapping[str, str]) -> tuple[dict[Key, int], dict[Pair, _Together]]:
    """How often each answered, and which answered the same inputs as a shadow."""
    counts: dict[Key, int] = {}
    together: dict[Pair, _Together] = {}
    pending: dict[str, Key] = {}
    for place, content in enumerate(journal.rows()):
        row = row_of(content)
        if row is None:
            continue
        key = (row.model, row.is_shadow)
        counts[key] = counts.get(key, 0) + 1
        other = pending.pop(row.id, None)
        if other is None or other[1] == row.is_shadow:
            pending[row.id] = key
            if len(pending) > MOST_PENDING:
                del pending[next(iter(pending))]
            continue
        found = together.setdefault(_ordered((key, other)), _Together(first=place))
        found.inputs, found.last = found.inputs + 1, place
        found.labelled += row.id in right
    return counts, together


def _ordered(pair: Sequence[Key]) -> Pair:
    first, second = sorted(pair, key=lambda key: (key[1], key[0]))
    return first, second


def _weight(found: _Together) -> tuple[int, int]:
    return found.labelled, found.last


def _are_named(pair: Pair, names: Sequence[str]) -> bool:
    """Whether each name is one of the two, and another one than that of another name."""
    if len(names) < 2:
        return not names or any(_is_named(key, names[0]) for key in pair)
    orders = (pair, pair[::-1])
    return any(all(_is_named(key, name) for key, name in zip(order, names[:2], strict=True)) for order in orders)


def _is_named(key: Key, name: str) -> bool:
    for ending, is_shadow in ROLES.items():
        if name.endswith(ending):
            return key[1] == is_shadow and key[0].startswith(name.removesuffix(ending))
    return key[0].startswith(name)


def _spoken(key: Key) -> str:
    """As `--model` takes it."""
    return key[0] + next(ending for ending, is_shadow in ROLES.items() if is_shadow == key[1])


def _told(pair: Pair) -> str:
    return f"`{pair[0][0]}` with `{pair[1][0]}` in its shadow"


def _other(pair: Pair, found: _Together) -> str:
    choice = " ".join(f"--model {_spoken(key)}" for key in pair)
    return f"not looked at: {_told(pair)}, which answered {found.inputs:,} same inputs: `{choice}`"


def _check_labels(right: Mapping[str, str], journal: Journal, keys: tuple[Key, Key]) -> None:
    """Raise `DataError` for labels that no answer could ever be: they would count as wrong, all of them."""
    there = {model: journal.reference(model) for model, _ in keys}
    known = [Reference.from_json(found, model).counts for model, found in there.items() if found is not None]
    if not right or not known:
        return
    classes = {name for counts in known for name in counts}
    foreign = Counter(label for label in right.values() if label not in classes)
    if foreign:
        told = ", ".join(f"`{label}` ({count:,})" for label, count in foreign.most_common(TOLD))
        raise DataError(
            f"{foreign.total():,} of {len(right):,} labels are no class of these models: {told}",
            hint="the classes are " + ", ".join(f"`{name}`" for name in sorted(classes)[:MOST_NAMED]),
        )


def _read_labels(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    conflicts: list[str] = []
    try:
        rows = csv.DictReader(io.StringIO(_text_of(path), newline=""), strict=True)
        names = [_column(rows.fieldnames or (), choices) for choices in COLUMNS]
        missing = [repr(choices[0]) for choices, name in zip(COLUMNS, names, strict=True) if name is None]
        if missing:
            raise DataError(f"`{path}` has no column {' and no column '.join(missing)}")
        for row in rows:
            id, label = (row[str(name)] for name in names)
            if not id or not label:
                raise DataError(f"line {rows.line_num} of `{path}` has no id or no label")
            if found.setdefault(id, label) != label:
                conflicts.append(id)
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise DataError(f"`{path}` cannot be read: {error}") from error
    if conflicts:
        told = ", ".join(f"`{id}`" for id in conflicts[:TOLD])
        raise DataError(f"{len(conflicts):,} answers have two labels in `{path}`, first: {told}")
    return found


def _text_of(path: Path) -> str:
    """In UTF-8, or as Chinese spreadsheets write it."""
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DataError(f"`{path}` is neither UTF-8 nor GB18030")


def _column(there: Sequence[str], choices: Sequence[str]) -> str | None:
    return next((name for name in choices if name in there), None)
