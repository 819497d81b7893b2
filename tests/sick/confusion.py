"""Who finds what: every run of the ward against the findings it got, as a table, and what the cures are worth.

python tests/sick/confusion.py --out /tmp/ward             # all sick and the fast healthy runs
python tests/sick/confusion.py --out /tmp/ward --slow      # and the slow healthy ones
python tests/sick/confusion.py --out /tmp/ward --cures     # and trains again with what each finding advises
python tests/sick/confusion.py --out /tmp/ward --scores    # only how sick the sick are, as in README.md
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import ward
from ward import HEALTHY, HEALTHY_SLOW, SICK, STEADY, Case, score_of

import danlu
from danlu.base.runs import Run

Found = list[tuple[str, float]]
Diagnose = Callable[[Run], Found]


@dataclass(frozen=True)
class Row:
    """A run of the ward. `expected` is empty for a healthy one; `found`: (finding, confidence), the surest first."""

    run: str
    expected: tuple[str, ...]
    found: Found

    @property
    def is_right(self) -> bool:
        """A sick run has one of its findings first; a healthy one has none."""
        return self.found[0][0] in self.expected if self.found and self.expected else not (self.found or self.expected)


@dataclass(frozen=True)
class Cured:
    """A sick run, trained again by the command line its finding gives."""

    run: str
    finding: str
    command: str
    score: str
    before: float | None
    after: float | None


def diagnose(run: Run) -> Found:
    """The findings of `danlu diagnose`, the surest first."""
    from danlu.diagnosis.diagnose import diagnose as look

    return [(finding.disease, finding.confidence) for finding in look(run).findings]


def command_of(run: Run, name: str) -> str | None:
    """The command line that a finding of this name gives for a run; None where it gives none."""
    from danlu.diagnosis.diagnose import diagnose as look

    return next((finding.command for finding in look(run).findings if finding.disease == name), None)


def confusion(
    look: Diagnose = diagnose, *, slow: bool = False, only: Sequence[str] = ()
) -> tuple[list[Row], dict[str, Run]]:
    """Train every run of the ward and ask for its findings; also the runs by name."""
    makers = {name: (case.findings, case.make) for name, case in SICK.items()}
    makers |= {name: ((), make) for name, make in {**HEALTHY, **(HEALTHY_SLOW if slow else {})}.items()}
    rows, runs = [], {}
    for name, (expected, make) in makers.items():
        if only and name not in only:
            continue
        runs[name] = make()
        rows.append(Row(name, expected, look(runs[name])))
    return rows, runs


def by_finding(rows: Iterable[Row]) -> list[tuple[str, int, int, int]]:
    """(finding, runs it was right for, runs it missed, runs it was told of wrongly)."""
    right: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for row in rows:
        names = [name for name, _ in row.found]
        if row.expected:
            hit = next((name for name in names if name in row.expected), None)
            (right if hit else missed)[row.expected[0]] += 1
        wrong.update(name for name in names if name not in row.expected)
    return [(name, right[name], missed[name], wrong[name]) for name in sorted({*right, *missed, *wrong})]


def cured(case: Case, name: str, run: Run, command: str, finding: str) -> Cured:
    """Train by `danlu train DATA section.key=value …` and compare the scores."""
    words = shlex.split(command)
    if words[:2] != ["danlu", "train"]:
        raise ValueError(f"not a line of `danlu train`: {command}")
    data, *settings = (word for word in words[2:] if not word.startswith("--"))
    again = danlu.train(data, STEADY, words=settings, name=ward.free_name(f"{name}-cured"))
    return Cured(name, finding, command, case.score, score_of(run, case.score), score_of(again, case.score))


def matrix(rows: Sequence[Row]) -> list[list[str]]:
    """Lines of a table: a run a line, a finding a column, confidences in it."""
    names = sorted({name for row in rows for name in (*row.expected, *(name for name, _ in row.found))})
    lines = [["run", "expected", "is_right", *names]]
    for row in rows:
        told = dict(row.found)
        cells = [f"{told[name]:.2f}" if name in told else "" for name in names]
        lines.append([row.run, " or ".join(row.expected), str(row.is_right).lower(), *cells])
    return lines


def scores(only: Sequence[str] = ()) -> str:
    """How sick the sick are: a Markdown table of their scores beside those of the same runs without the fault."""
    lines = ["| case | what is wrong | finding | score | sick | well |", "|---|---|---|---|---|---|"]
    for name, case in SICK.items():
        if not only or name in only:
            told = [score_of(run, case.score) for run in (case.make(), case.well())]
            sick, well = ("failed" if value is None else f"{100 * value:.1f} %" for value in told)
            kind = case.score.replace("_", " ")
            lines.append(f"| {name} | {case.what} | {case.finding} | {kind} | {sick} | {well} |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True, help="folder for the runs and the tables")
    arguments.add_argument("--slow", action="store_true")
    arguments.add_argument("--cures", action="store_true")
    arguments.add_argument("--scores", action="store_true")
    arguments.add_argument("--only", nargs="*", default=(), metavar="NAME")
    given = arguments.parse_args()
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["DANLU_RUNS"] = str(out / "runs")
    if given.scores:
        print(scores(given.only))
        return
    rows, runs = confusion(slow=given.slow, only=given.only)
    with open(out / "confusion.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(matrix(rows))
    for row in rows:
        told = ", ".join(f"{name} {confidence:.2f}" for name, confidence in row.found) or "nothing"
        verdict = "right" if row.is_right else "WRONG"
        print(f"{verdict}  {row.run:26}  {row.expected[0] if row.expected else '':20}  {told}")
    print()
    for name, right, missed, wrong in by_finding(rows):
        print(f"{name:22}  right {right}  missed {missed}  wrong {wrong}")
    if given.cures:
        results = []
        for row in rows:
            case = SICK.get(row.run)
            hit = next((name for name, _ in row.found if name in row.expected), None)
            if case and case.curable and hit and (command := command_of(runs[row.run], hit)):
                results.append(cured(case, row.run, runs[row.run], command, hit))
                print(results[-1])
        (out / "cures.json").write_text(json.dumps([asdict(each) for each in results], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
