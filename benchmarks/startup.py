"""Milliseconds until `danlu --help` has answered and until `import danlu` is done, as whole processes.

Targets: `danlu --help` at most 150 ms, `import danlu` at most 50 ms beyond a Python that does nothing.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import report

HELP_TARGET_MS = 150
IMPORT_TARGET_MS = 50
HEAVY = ("torch", "numpy", "pydantic", "PIL", "tokenizers", "sklearn")
IMPORT_TIME = re.compile(r"import time:\s+\d+ \|\s+(\d+) \| ( *)(\S+)")


def main() -> None:
    parser = report.parser(__doc__, rounds=20)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 3
    python = sys.executable
    commands: dict[str, list[str | Path]] = {
        "python -c pass": [python, "-c", "pass"],
        "import danlu": [python, "-c", "import danlu"],
        "danlu --help": [danlu_command(), "--help"],
        "import torch": [python, "-c", "import torch"],
    }
    facts = report.start_facts(arguments)
    by_round: dict[str, list[float]] = {name: [] for name in commands}
    inside: list[float] = []
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        for round_ in range(arguments.rounds + 1):
            found = {key: report.run_process(command, folder=folder)[0] * 1e3 for key, command in commands.items()}
            seen = import_times([python, "-X", "importtime", "-c", "import danlu"], folder)
            if round_:  # the first round warms up: byte code and the operating system's cache
                for key, milliseconds in found.items():
                    by_round[key].append(milliseconds)
                inside.append(seen["danlu"])
        loaded = {
            what: sorted(set(HEAVY) & set(import_times([python, "-X", "importtime", *words], folder)))
            for what, words in (("import danlu", ["-c", "import danlu"]), ("danlu --help", ["-m", "danlu", "--help"]))
        }
    beyond = [a - b for a, b in zip(by_round["import danlu"], by_round["python -c pass"], strict=True)]
    rows = [
        _row("`danlu --help`, whole process", by_round["danlu --help"], HELP_TARGET_MS),
        _row("`import danlu`, beyond `python -c pass`", beyond, IMPORT_TARGET_MS),
        _row("`import danlu`, as `-X importtime` counts it", inside, IMPORT_TARGET_MS),
        _row("`import danlu`, whole process", by_round["import danlu"]),
        _row("`python -c pass`, whole process", by_round["python -c pass"]),
        _row("`import torch`, whole process", by_round["import torch"]),
    ]
    report.publish(
        arguments,
        "startup",
        "Start-up time",
        {**facts, "heavy_packages_loaded": loaded},
        rows,
        {**by_round, "import danlu beyond python": beyond, "import danlu by importtime": inside},
        [
            "in turn in every round, one warm-up round before; `beyond` is the difference within a round",
            *(f"of {', '.join(HEAVY)}, `{what}` loads: {', '.join(names) or 'none'}" for what, names in loaded.items()),
        ],
    )


def danlu_command() -> Path:
    """The installed `danlu` of the Python that runs this."""
    found = shutil.which("danlu", path=sysconfig.get_path("scripts"))
    if found is None:
        raise SystemExit("no `danlu` beside this Python: `pip install -e .` first")
    return Path(found)


def import_times(command: list[str | Path], folder: Path) -> dict[str, float]:
    """Cumulative milliseconds of every module a command imports."""
    _, done = report.run_process(command, folder=folder)
    return {m[3]: int(m[1]) / 1e3 for line in done.stderr.splitlines() if (m := IMPORT_TIME.match(line))}


def _row(name: str, milliseconds: list[float], target: int | None = None) -> dict[str, Any]:
    spread = report.summarize(milliseconds)
    told = "" if target is None else f"≤ {target} ms: {'met' if spread['median'] <= target else 'missed'}"
    return {
        "what": name,
        "n": spread["n"],
        "ms, median": round(spread["median"], 1),
        "min": round(spread["min"], 1),
        "max": round(spread["max"], 1),
        "target (median)": told,
    }


if __name__ == "__main__":
    main()
