"""`danlu diagnose` on runs that are sick on purpose and on healthy ones: who finds what, and what the cures are worth.

Targets: every sick run has its finding among the first three; no healthy run has one of high confidence; the printed
cure raises the validation score in at least 80 % of the sick runs that a setting can cure. The runs are those of
`tests/sick/ward.py`: digits and Chinese reviews, trained by `danlu train` or by `danlu.train_own`.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import report

sys.path.insert(0, str(report.HERE.parent / "tests" / "sick"))

from confusion import Cured, Row, by_finding, cured, examined, matrix
from ward import HEALTHY, HEALTHY_NUMBERS, HEALTHY_SLOW, SICK, SICK_SLOW

from danlu.base import log

TARGET = 0.8
ALL_SICK = SICK | SICK_SLOW


def main() -> None:
    parser = report.parser(__doc__, rounds=1)
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="some runs of the ward")
    arguments = parser.parse_args()
    cases = SICK if arguments.quick else ALL_SICK
    makers: dict[str, Any] = {name: (case.findings, case.make) for name, case in cases.items()}
    makers |= {name: ((), make) for name, make in (HEALTHY | HEALTHY_NUMBERS).items()}
    makers |= {} if arguments.quick else {name: ((), make) for name, make in HEALTHY_SLOW.items()}
    makers = {name: maker for name, maker in makers.items() if not arguments.only or name in arguments.only}
    facts = report.start_facts(arguments)
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as folder, log.silence():
        os.environ["DANLU_RUNS"] = str(Path(folder) / "runs")
        rows, findings = examined(makers, report.say)
        results = []
        for row in rows:
            case = ALL_SICK.get(row.run)
            result = cured(case, row.run, findings[row.run]) if case and case.curable else None
            if result:
                results.append(result)
                report.say(f"{row.run}: {_share(result.before)} → {_share(result.after)}   {result.command}")
    publish(arguments, facts, rows, results)


def publish(arguments: Any, facts: dict[str, Any], rows: list[Row], results: list[Cured]) -> None:
    sick, healthy = [row for row in rows if row.expected], [row for row in rows if not row.expected]
    helped = sum(result.helped for result in results)
    curable = [name for name, case in ALL_SICK.items() if case.curable and name in {row.run for row in rows}]
    cures = [
        {
            "run": result.run,
            "what is wrong": ALL_SICK[result.run].what,
            "finding": result.finding,
            "score": result.score.replace("_", " "),
            "before": _share(result.before),
            "after": _share(result.after),
            "helped": "yes" if result.helped else "no",
            "settings of the printed line": f"`{' '.join(_settings(result.command))}`",
        }
        for result in results
    ]
    counted = [
        {"finding": name, "sick runs found": right, "sick runs missed": missed, "healthy runs, sure": wrong}
        for name, right, missed, wrong in by_finding(rows)
    ]
    notes = [
        f"sick runs with their finding among the first three: {sum(row.is_right for row in sick)} of {len(sick)}",
        f"healthy runs without a finding of high confidence: {sum(row.is_right for row in healthy)} of {len(healthy)}",
        f"cures that helped: {helped} of {len(curable)} runs that a setting can cure (target: {TARGET:.0%})",
        "a cell: the place of the finding in the list and how sure it is (high, medium, low); bold: what is wrong",
    ]
    tables = {"Findings of each run": matrix(rows), "By finding": counted, "Cures": cures}
    told = [{**asdict(result), "command": _settings(result.command)} for result in results]
    samples = {"runs": [asdict(row) for row in rows], "cures": told}
    report.publish(arguments, "diagnosis", "Sick and healthy trainings", facts, tables, samples, notes)


def _settings(command: str) -> list[str]:
    return [word for word in shlex.split(command) if "=" in word]


def _share(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


if __name__ == "__main__":
    main()
