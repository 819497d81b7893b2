"""Step time of danlu's Trainer divided by that of a bare loop with the same model, batches, optimizer and threads.

Target: at most 1.01 where a step takes 5 ms or more. A step of the one and a step of the other follow each other in
one process; the Trainer counts accuracy and loss and saves checkpoints as it does by default, the bare loop does
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
MODELS = ("digit_cnn", "digit_cnn, channels_last", "vgg_cnn", "mlp")


def main() -> None:
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--threads", type=int, default=available_cores(), help="of both loops")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    facts = report.start_facts(arguments)
    command = [sys.executable, report.HERE / "peers" / "steps_in_turn.py", "--models", *arguments.models]
    command += ["--share", "0.02" if arguments.quick else "1", "--threads", str(arguments.threads)]
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        for round_ in range(arguments.rounds):
            rounds.append(report.run_child(command, folder=Path(name))["models"])
            told = "   ".join(f"{model} {found['ratio']:.3f}" for model, found in rounds[-1].items())
            report.say(f"round {round_ + 1}/{arguments.rounds}   {told}")
    report.publish(
        arguments,
        "engine_overhead",
        "Step time of the Trainer and of a bare loop",
        facts,
        [row(model, [found[model] for found in rounds]) for model in arguments.models],
        rounds,
        [
            "batches of 64 random examples in memory, fused AdamW, float32, processor only;"
            f" threads of both: {arguments.threads}",
            "`digit_cnn` on 1 × 28 × 28, `vgg_cnn` on 3 × 32 × 32, `mlp` 784-256-128-10 without dropout",
            "n: timed steps of each; ms a step: median; danlu ÷ bare: median of a step ÷ the one right after it, of the"
            " rounds (and their range); of all seconds: of the sums, so that every save counts",
            "danlu's clock holds its loop, loss and accuracy of every batch, and the saves between steps;"
            " saves: their share of it",
        ],
    )


def row(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    def total(key: str) -> float:
        return sum(found[key] for found in rounds)

    ratios = [found["ratio"] for found in rounds]
    milliseconds = {key: statistics.median(found[key] for found in rounds) for key in ("bare_ms", "danlu_ms")}
    met = "met" if statistics.median(ratios) <= TARGET else "missed"
    return {
        "model": name,
        "n": total("n"),
        "ms a step, bare": milliseconds["bare_ms"],
        "ms a step, danlu": milliseconds["danlu_ms"],
        "danlu ÷ bare": report.spread(ratios, ".3f"),
        "of all seconds": round(total("danlu_seconds") / total("bare_seconds"), 3),
        "saves": f"{total('save_seconds') / total('danlu_seconds'):.2%}",
        "target": f"≤ {TARGET}: {met}" if milliseconds["bare_ms"] >= TARGET_FROM_MS else "for information",
    }


if __name__ == "__main__":
    main()
