"""What the recorder's looks from inside cost: trainings with and without them in turn, seconds of the one ÷ the other.

Target: at most 1.02. Four epochs of random batches in memory, checkpoints as by default.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import report

from danlu.base.machine import available_cores

TARGET = 1.02
MODELS = ("mlp", "digit_cnn", "vgg_cnn", "ngrams", "textcnn", "bilstm")


def main() -> None:
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--threads", type=int, default=available_cores(), help="of both")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--trainings", type=int, default=8, help="of each way in a round")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.trainings = 1, 1
    facts = report.start_facts(arguments)
    command = [sys.executable, report.HERE / "peers" / "watched_trainings.py", "--models", *arguments.models]
    command += ["--trainings", str(arguments.trainings), "--threads", str(arguments.threads)]
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        for round_ in range(arguments.rounds):
            rounds.append(report.run_child(command, folder=Path(name))["models"])
            told = "   ".join(
                f"{model} {statistics.median(found['ratios']):.3f}" for model, found in rounds[-1].items()
            )
            report.say(f"round {round_ + 1}/{arguments.rounds}   {told}")
    report.publish(
        arguments,
        "recorder",
        "What looking at layers while training costs",
        facts,
        [row(model, [found[model] for found in rounds]) for model in arguments.models],
        rounds,
        [
            "batches of 64 random examples in memory, AdamW, float32, processor only;"
            f" threads of both: {arguments.threads}",
            "n: trainings of each way; looks: steps looked at from inside; told: the share of the time the recorder"
            " itself counts, which is what it is bounded by; with ÷ without: seconds of a training with looks ÷ those"
            " of the one without beside it, median (and the middle half)",
        ],
    )


def row(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = sorted(ratio for found in rounds for ratio in found["ratios"])
    middle = statistics.median(ratios)
    low, high = (ratios[0], ratios[-1]) if len(ratios) < 4 else statistics.quantiles(ratios, n=4)[::2]
    return {
        "model": name,
        "n": len(ratios),
        "ms a step": statistics.median(found["milliseconds"] for found in rounds),
        "steps": rounds[0]["steps"],
        "looks": statistics.median(found["looks"] for found in rounds),
        "told": f"{statistics.median(found['share_told'] for found in rounds):.2%}",
        "with ÷ without": f"{middle:.3f} ({low:.3f} to {high:.3f})",
        "target": f"≤ {TARGET}: {'met' if middle <= TARGET else 'missed'}",
    }


if __name__ == "__main__":
    main()
