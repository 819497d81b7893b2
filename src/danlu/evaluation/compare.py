"""The verb `compare`: runs → which is better on the same test examples, or whether that could be chance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base import log
from danlu.base.errors import ConfigError, ModelError
from danlu.base.extras import require_extra
from danlu.base.files import make_folder
from danlu.base.runs import Run, comparisons_folder, find_run
from danlu.data.split import read_manifest
from danlu.prediction.answers import Answers
from danlu.scores.classification import wilson_interval
from danlu.scores.comparison import DOUBT, Difference, holm, paired_difference


@dataclass(frozen=True)
class Compared:
    """One run of a comparison; accuracy and its 95 % interval are over the examples all of them answered."""

    name: str
    model: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float | None
    log_loss: float | None
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Pair:
    """Two runs of a comparison. `p_value` is Holm's, adjusted for all pairs; `better` is None where none is shown."""

    first: str
    second: str
    difference: Difference
    p_value: float
    better: str | None

    @property
    def adjusted(self) -> str:
        return " after Holm" if self.p_value != self.difference.p_value else ""

    def sentence(self) -> str:
        low, high = self.difference.interval
        told = (
            f"difference {100 * self.difference.accuracy:+.2f} points, 95 % interval {100 * low:+.2f} to"
            f" {100 * high:+.2f}, McNemar p = {self.p_value:.2g}{self.adjusted}"
        )
        if self.better is None:
            return f"no difference shown between {self.first} and {self.second} ({told})"
        worse = self.second if self.better == self.first else self.first
        return f"{self.better} is better than {worse} ({told})"


@dataclass(frozen=True)
class Comparison:
    """What several runs are worth beside each other on `examples` test examples; `page`: the HTML file."""

    examples: int
    runs: tuple[Compared, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    page: Path

    def to_json(self) -> dict[str, Any]:
        return {"format": 1, **asdict(self), "page": str(self.page)}


def compare(places: Sequence[Run | str | Path], *, page: str | Path | None = None) -> Comparison:
    """Compare evaluated runs on the test examples they share, in pairs, and write a page with their curves.

    A pair differs when the exact McNemar test says so at 5 %, adjusted for all pairs. It compares these trained
    models, not their recipes: another seed is another model.
    Raises `ConfigError` for fewer than two runs, one that is not evaluated, or runs that share no test example.

    >>> compare(["runs/a", "runs/b"]).pairs[0].better     # doctest: +SKIP
    'a'
    """
    require_extra("train", "a comparison")
    found = [place if isinstance(place, Run) else find_run(place) for place in places]
    runs = list({run.folder.resolve(): run for run in found}.values())
    if len(runs) < 2:
        raise ConfigError("a comparison needs two different runs", hint="`danlu runs` shows all runs")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ConfigError(f"two of these runs have the same name: {', '.join(names)}", hint="rename a run's folder")
    answers = [_answers_by_example(run) for run in runs]
    shared = sorted(set(answers[0]).intersection(*answers[1:]))
    _require_same_labels(runs, shared, answers)
    if not shared:
        raise ConfigError(
            "these runs share no test example", hint="only runs on the same data, with the same split, can be compared"
        )
    notes = [
        f"{run.name} has {len(own):,} test examples, of which all the runs share {len(shared):,}"
        for run, own in zip(runs, answers, strict=True)
        if len(own) > len(shared)
    ]
    whole = not notes
    right = {
        run.name: np.array([truth == answer for truth, answer in map(own.__getitem__, shared)], dtype=bool)
        for run, own in zip(runs, answers, strict=True)
    }
    comparison = Comparison(
        examples=len(shared),
        runs=tuple(_compared(run, right[run.name], whole=whole) for run in runs),
        pairs=_pairs(right),
        notes=tuple(notes),
        page=Path(page) if page is not None else _page_of(runs),
    )
    _write_page(comparison, runs)
    return comparison


def _answers_by_example(run: Run) -> dict[tuple[str, str], tuple[str, str]]:
    """(key, content hash) of each test example → its label, and the run's answer."""
    evaluation = run.evaluation()
    if evaluation is None or not run.answers_file("test").exists():
        raise ConfigError(f"`{run}` is not evaluated", hint=f"`danlu evaluate {run}`")
    answers = Answers.read(run.answers_file("test"))
    hashes = {row.key: row.sha256 for row in read_manifest(run.manifest_file) if row.part == "test"}
    if len(answers) != evaluation["examples"] or not set(answers.keys) <= set(hashes):
        raise ModelError(
            f"`{run.answers_file('test')}` does not hold the {evaluation['examples']:,} answers of the evaluation",
            hint=f"`danlu evaluate {run}` writes it anew",
        )
    return {
        (key, hashes[key]): (truth, answer)
        for key, truth, answer in zip(answers.keys, answers.truth, answers.answer, strict=True)
    }


def _require_same_labels(
    runs: Sequence[Run], shared: Sequence[tuple[str, str]], answers: Sequence[dict[tuple[str, str], tuple[str, str]]]
) -> None:
    other = [example for example in shared if len({own[example][0] for own in answers}) > 1]
    if other:
        raise ConfigError(
            f"{len(other):,} of the {len(shared):,} shared test examples have other labels in one run than in another,"
            f" first: `{other[0][0]}`",
            hint=f"the labels were changed between these runs: train `{runs[0]}` again with the labels as they are now",
        )


def _compared(run: Run, right: np.ndarray, *, whole: bool) -> Compared:
    """Macro F1 and log loss are those of the evaluation, so they are given where all its examples are compared."""
    status = run.status()
    test = status.get("test") or {}
    return Compared(
        name=run.name,
        model=status.get("model", "?"),
        accuracy=float(right.mean()),
        accuracy_interval=wilson_interval(int(right.sum()), len(right)),
        macro_f1=test.get("macro_f1") if whole else None,
        log_loss=test.get("log_loss") if whole else None,
        epochs=len(run.history()),
        seconds=status.get("seconds", 0.0),
    )


def _pairs(right: dict[str, np.ndarray]) -> tuple[Pair, ...]:
    names = list(combinations(right, 2))
    differences = [paired_difference(right[first], right[second]) for first, second in names]
    adjusted = holm([difference.p_value for difference in differences])
    return tuple(
        Pair(first, second, difference, p_value, _better(first, second, difference, p_value))
        for (first, second), difference, p_value in zip(names, differences, adjusted, strict=True)
    )


def _better(first: str, second: str, difference: Difference, p_value: float) -> str | None:
    if p_value >= DOUBT:
        return None
    return first if difference.accuracy > 0 else second


def _page_of(runs: Sequence[Run]) -> Path:
    names = "--".join(run.name[:40] for run in runs[:2])
    if len(runs) > 2:
        digest = hashlib.sha256("\n".join(run.name for run in runs).encode()).hexdigest()[:6]
        names += f"-and-{len(runs) - 2}-more-{digest}"
    return comparisons_folder() / f"{names}.html"


def _write_page(comparison: Comparison, runs: Sequence[Run]) -> None:
    from danlu.reporting.comparison_page import write_comparison

    make_folder(comparison.page.parent)
    write_comparison(
        comparison.page,
        comparison.to_json(),
        sentences=[pair.sentence() for pair in comparison.pairs],
        histories={run.name: run.history() for run in runs},
    )
    log.say(f"comparison: {comparison.page}")
