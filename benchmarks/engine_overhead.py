"""Step time of danlu's Trainer divided by that of a bare loop with the same model, batches, optimizer and threads.

Target: at most 1.01 where a step takes 5 ms or more. An epoch of the one and an epoch of the other follow each other
in one process; the Trainer counts accuracy and loss and saves checkpoints as it does by default, the bare loop does
forward, backward and the update and nothing else.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import report

from danlu.base.machine import available_cores

TARGET = 1.01
TARGET_FROM_MS = 5
MODELS = {
    "digit_cnn": "`digit_cnn`, 1 × 28 × 28",
    "vgg_cnn": "`vgg_cnn`, 3 × 32 × 32",
    "mlp": "784-256-128-10, no dropout",
}


def main() -> None:
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--epochs", type=int, default=20, help="timed epochs a round of each, after one warm-up epoch")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of both loops")
    parser.add_argument("--channels-last", action="store_true", help="memory order of both models")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.epochs = 1, 1
    facts = report.start_facts(arguments)
    command = [sys.executable, report.HERE / "peers" / "epochs_in_turn.py", "--models", *arguments.models]
    command += ["--epochs", str(arguments.epochs + 1), "--threads", str(arguments.threads)]
    command += ["--channels-last"] * arguments.channels_last
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        for round_ in range(arguments.rounds):
            rounds.append(report.run_child(command, folder=Path(name))["models"])
            told = "   ".join(f"{model} {statistics.median(ratios(found)):.3f}" for model, found in rounds[-1].items())
            report.say(f"round {round_ + 1}/{arguments.rounds}   {told}")
    report.publish(
        arguments,
        "engine_overhead",
        "Step time of the Trainer and of a bare loop",
        facts,
        [row(MODELS[model], [found[model] for found in rounds]) for model in arguments.models],
        rounds,
        [
            "batches of 64 random examples in memory, fused AdamW, float32, processor only;"
            f" threads of both: {arguments.threads}",
            "n: timed epochs of each; ms a step: median of the epochs; danlu ÷ bare: of an epoch and the one right"
            " after it, median (and range); of all seconds: of the sums, so that every save counts",
            "danlu's clock holds its loop, loss and accuracy of every batch, and the saves between steps;"
            " saves: their share of it",
        ],
    )


def ratios(found: dict[str, Any]) -> list[float]:
    """danlu's epoch ÷ the bare epoch after it, the warm-up left out."""
    return [danlu / bare for danlu, bare in zip(found["danlu"][1:], found["bare"][1:], strict=True)]


def row(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    timed = {key: [value for found in rounds for value in found[key][1:]] for key in ("danlu", "bare", "saves")}
    milliseconds = {key: 1e3 * statistics.median(timed[key]) / rounds[0]["steps"] for key in ("danlu", "bare")}
    each = [value for found in rounds for value in ratios(found)]
    met = "met" if statistics.median(each) <= TARGET else "missed"
    return {
        "model": name,
        "n": len(each),
        "ms a step, bare": milliseconds["bare"],
        "ms a step, danlu": milliseconds["danlu"],
        "danlu ÷ bare": report.spread(each, ".3f"),
        "of all seconds": round(sum(timed["danlu"]) / sum(timed["bare"]), 3),
        "saves": f"{sum(timed['saves']) / sum(timed['danlu']):.2%}",
        "target": f"≤ {TARGET}: {met}" if milliseconds["bare"] >= TARGET_FROM_MS else "for information",
    }


if __name__ == "__main__":
    main()
