"""Who finds what: every run of the ward against the findings it got, and what the printed cures are worth."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ward import Case, free_name, score_of

from danlu.base.runs import Run, runs_folder
from danlu.diagnosis.diagnose import Findings, diagnose

FIRST = 3
WORTH = 0.005


@dataclass(frozen=True)
class Row:
    """A run of the ward. `expected` is empty for a healthy one; `found`: (finding, level), in the order it is told."""

    run: str
    expected: tuple[str, ...]
    found: tuple[tuple[str, str], ...]

    @property
    def is_right(self) -> bool:
        """A sick run has its finding among the first three; a healthy one has none of high confidence."""
        if self.expected:
            return any(name in self.expected for name, _ in self.found[:FIRST])
        return all(level != "high" for _, level in self.found)


@dataclass(frozen=True)
class Cured:
    """A sick run, trained again by the line that its finding prints."""

    run: str
    finding: str
    command: str
    score: str
    before: float | None
    after: float | None

    @property
    def helped(self) -> bool:
        return self.after is not None and (self.before is None or self.after > self.before + WORTH)


def examined(
    makers: Mapping[str, tuple[tuple[str, ...], Callable[[], Run]]], say: Callable[[str], None] = print
) -> tuple[list[Row], dict[str, Findings]]:
    """Train every run and diagnose it. `makers`: name → (findings that are right, what trains it)."""
    rows, findings = [], {}
    for name, (expected, make) in makers.items():
        findings[name] = diagnose(make())
        told = tuple((found.diagnosis.disease, found.diagnosis.level) for found in findings[name].found)
        rows.append(Row(name, expected, told))
        shown = ", ".join(f"{disease} ({level})" for disease, level in told) or "nothing"
        say(f"{'right' if rows[-1].is_right else 'WRONG'}  {name:<26} {shown}")
    return rows, findings


def by_finding(rows: Iterable[Row]) -> list[tuple[str, int, int, int]]:
    """(finding, sick runs it is among the first three of, sick runs of it that miss it, healthy runs it is sure of)."""
    names = sorted({name for row in rows for name in (*row.expected[:1], *(name for name, _ in row.found))})
    table = []
    for name in names:
        sick = [row for row in rows if row.expected and row.expected[0] == name]
        right = sum(row.is_right for row in sick)
        wrong = sum((name, "high") in row.found for row in rows if not row.expected)
        table.append((name, right, len(sick) - right, wrong))
    return table


def matrix(rows: Sequence[Row]) -> list[dict[str, str]]:
    """A run a row, a finding a column: its place in the list and how sure it is (H, M or L)."""
    names = list(dict.fromkeys([row.expected[0] for row in rows if row.expected]))
    names += sorted({name for row in rows for name, _ in row.found} - set(names))
    table = []
    for row in rows:
        cells = {name: f"{place + 1}{level[0].upper()}" for place, (name, level) in enumerate(row.found)}
        told = {name: cells.get(name, "") for name in names}
        for name in row.expected[:1]:
            told[name] = f"**{told[name] or 'missed'}**"
        table.append({"run": row.run, "right": "yes" if row.is_right else "no", **told})
    return table


def cured(case: Case, name: str, findings: Findings) -> Cured | None:
    """Run the line printed for the first finding that is right, in a process of its own; None where there is none."""
    told = [found for found in findings.first if found.diagnosis.disease in case.findings]
    if not told or not told[0].command or not told[0].command.startswith("danlu train "):
        return None
    command, again = told[0].command, free_name(f"{name.replace('_', '-')}-cured")
    words = [sys.executable, "-m", *shlex.split(command), "--name", again, "--no-bundle"]
    subprocess.run(words, check=False, capture_output=True, text=True)
    new = Run(runs_folder() / again)
    before, after = (score_of(run, case.score) for run in (findings.run, new))
    return Cured(name, told[0].diagnosis.disease, command, case.score, before, after)
