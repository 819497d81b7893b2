"""What all benchmarks share: arguments, facts of the machine, medians with spread, and the two result files."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.base.machine import environment

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BUSY_SHARE = 0.25

Row = Mapping[str, Any]


def parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The arguments every benchmark takes; `rounds` is the default number of turns each competitor gets."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--rounds", type=_positive, default=rounds, help="turns each competitor gets: A B C A B C …")
    made.add_argument(
        "--quick", action="store_true", help="one small round to see that everything runs; no figure to quote"
    )
    made.add_argument(
        "--results", type=Path, help="folder for the JSON and the table; default: results/, nothing with --quick"
    )
    return made


def summarize(values: Sequence[float]) -> dict[str, float]:
    """How many values there are, their median and their spread.

    >>> summarize([3.0, 1.0, 2.0])
    {'n': 3, 'median': 2.0, 'min': 1.0, 'max': 3.0}
    """
    return {"n": len(values), "median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(of: Sequence[Sequence[float]], to: Sequence[Sequence[float]]) -> str:
    """`of` divided by `to`, each with one list of values a round: the median over rounds, and its range.

    Medians are divided within a round, so that a machine that drifts between rounds does not enter.
    """
    each = [statistics.median(a) / statistics.median(b) for a, b in zip(of, to, strict=True)]
    told = f"{statistics.median(each):.2f}"
    return told if len(each) == 1 else f"{told} ({min(each):.2f} to {max(each):.2f})"


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """
    >>> spread([3.0, 1.0, 2.0])
    '2.0 (1.0 to 3.0)'
    """
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def start_facts(arguments: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """The machine, the versions and the settings of this benchmark; file names without their folders."""
    settings = {
        name: value.name if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
        if name not in ("results", "peers", "tensorflow")
    }
    facts = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": _commit(),
        **environment(),
        "load_before": _load(),
        "settings": settings,
        **more,
    }
    busy = facts["load_before"]
    if busy is not None and busy > BUSY_SHARE * facts["cores"]:
        say(f"warning: the machine is busy (load {busy:.2f} on {facts['cores']} cores); quote nothing from this run")
    return facts


def publish(
    arguments: argparse.Namespace,
    name: str,
    title: str,
    facts: dict[str, Any],
    rows: Sequence[Row] | Mapping[str, Sequence[Row]],
    samples: Any,
    notes: Sequence[str] = (),
) -> None:
    """Print the result, and write `NAME.json` with every sample and `NAME.md` with the table, or tables by title."""
    facts = {**facts, "load_after": _load()}
    if isinstance(rows, Mapping):
        tables = "\n\n".join(f"## {name}\n\n{markdown_table(table)}" for name, table in rows.items() if table)
    else:
        tables = markdown_table(rows)
    text = f"# {title}\n\n{_told(facts)}\n\n{tables}\n"
    if notes:
        text += "\n" + "".join(f"* {note}\n" for note in notes)
    print(text)
    folder = arguments.results or (None if arguments.quick else RESULTS)
    if folder is None:
        say("--quick: nothing is written")
        return
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "format": 1,
        "title": title,
        "facts": facts,
        "table": {name: list(table) for name, table in rows.items()} if isinstance(rows, Mapping) else list(rows),
        "samples": samples,
        "notes": list(notes),
    }
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    say(f"written: {name}.json and {name}.md in {folder}")


def markdown_table(rows: Sequence[Row]) -> str:
    """Rows with the same keys as a Markdown table; numbers stand to the right.

    >>> print(markdown_table([{"name": "a", "images/s": 1234.5}]))
    | name | images/s |
    | :--- | ---: |
    | a | 1,234 |
    """
    columns = list(rows[0])
    numeric = {column: all(not isinstance(row[column], str) for row in rows) for column in columns}
    lines = [
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join("---:" if numeric[column] else ":---" for column in columns) + " |",
    ]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def run_child(command: Sequence[str | Path], *, folder: Path, **environment_values: str | Path) -> dict[str, Any]:
    """Run one competitor in a process of its own, in `folder`, and return the JSON it left at `--out`.

    `process_seconds` is added: the wall time of the whole process. What the child says is shown only when it fails.
    """
    out = folder / "child.json"
    out.unlink(missing_ok=True)
    seconds, _ = run_process([*command, "--out", out], folder=folder, **environment_values)
    return {**json.loads(out.read_text(encoding="utf-8")), "process_seconds": seconds}


def run_process(
    command: Sequence[str | Path], *, folder: Path, **environment_values: str | Path
) -> tuple[float, subprocess.CompletedProcess[str]]:
    """(wall seconds, the finished process). A process that fails ends the benchmark with what it said."""
    words = [str(word) for word in command]
    values = {**os.environ, **{name: str(value) for name, value in environment_values.items()}}
    started = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=values, capture_output=True, text=True, encoding="utf-8", check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-8000:], file=sys.stderr)
        sys.exit(
            f"`{Path(words[1]).name if len(words) > 1 else words[0]}` ended with code {done.returncode}, see above"
        )
    return seconds, done


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def _told(facts: Mapping[str, Any]) -> str:
    packages = {"danlu": facts["danlu"], "python": facts["python"], **facts["packages"], **facts.get("peers", {})}
    load = f"load {facts['load_before']} before, {facts['load_after']} after"
    machine = f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']}"
    return "\n".join(
        [
            f"* machine: {machine}; {load}",
            "* versions: " + ", ".join(f"{name} {found}" for name, found in packages.items()),
            f"* commit {facts['commit']}, {facts['started']}",
            "* settings: " + ", ".join(f"{name} {value}" for name, value in facts["settings"].items()),
        ]
    )


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return number
