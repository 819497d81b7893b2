"""Seconds of training until 92.5 % of Fashion-MNIST's test images are right: danlu's `fast_cnn`, a tutorial's CNN.

danlu runs as `danlu train fashion-mnist model.name=fast_cnn` with nothing else but the seed and a validation part of
1 %: its recipe's fixed schedule, and one look at the test part, after training. The tutorial's loop trains PyTorch's
MNIST network at batch 64 with Adam at 1e-3 on all train images and looks at the test part after every epoch, outside
the clock, until it is there. Round r has seed r.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import report
from startup import danlu_command
from throughput import DATA, fresh_cache

from danlu.base.runs import Run
from danlu.base.settings import DataSettings
from danlu.sources.known import read

TARGET = 0.925
SPLIT = "[0.99,0.01,0]"  # the test part is the one the set states
TUTORIALS = {
    "tutorial loop, torchvision's steps": ["--pillow"],
    "tutorial loop, tensors only": [],
}
TUTORIAL_NETWORK = "digit_cnn"
QUICK_IMAGES, QUICK_SPLIT = 600, "[0.01,0.99,0]"


def main() -> None:
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--model", default="fast_cnn", help="danlu's model")
    parser.add_argument("--tutorial-epochs", type=int, default=12, help="after which the tutorial's loop gives up")
    arguments = parser.parse_args()
    words = [f"model.name={arguments.model}", f"data.split={QUICK_SPLIT if arguments.quick else SPLIT}"]
    if arguments.quick:
        arguments.rounds, arguments.tutorial_epochs = 1, 1
        words.append("training.epochs=1")
    danlu = f"danlu, model.name={arguments.model}"
    facts = report.start_facts(arguments)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in (danlu, *TUTORIALS)}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        for part in ("train", "test"):
            write_part(folder / f"{part}.npz", part, QUICK_IMAGES if arguments.quick else None)
        for seed in range(arguments.rounds):
            _keep(results, danlu, train_danlu([*words, f"training.seed={seed}"], folder))
            for who, extra in TUTORIALS.items():
                command = [sys.executable, report.HERE / "peers" / "train_tutorial.py", *extra]
                command += ["--network", TUTORIAL_NETWORK, "--seed", str(seed), "--until", str(TARGET)]
                command += ["--data", folder / "train.npz", "--test", folder / "test.npz"]
                command += ["--epochs", str(arguments.tutorial_epochs)]
                _keep(results, who, report.run_child(command, folder=folder))
    report.publish(
        arguments,
        "time_to_accuracy",
        f"Seconds until {TARGET:.1%} of Fashion-MNIST's test images are right",
        facts,
        table(results, results[danlu]),
        results,
        [
            f"danlu learns from {results[danlu][-1]['images']:,} images and looks at the test part once, at its end;"
            f" the tutorial learns from {results[next(iter(TUTORIALS))][-1]['images']:,}, up to the epoch that reaches"
            f" {TARGET:.1%}, or {arguments.tutorial_epochs} epochs",
            "seconds, training: danlu's epochs with their validation; the tutorial's epochs without its looks at the"
            " test part. Median (and range)",
            "seconds, process: the whole command, imports, reading, measuring what is fastest here, checkpoints and"
            " scoring the test part",
            "this ÷ danlu: seconds of training within a round, the median of the rounds (and range); `>`: a round gave"
            " up before it was there",
        ],
    )


def write_part(path: Path, part: str, count: int | None) -> None:
    """The images of a part the set states; all, or the first ones."""
    examples = read(DATA, DataSettings())
    chosen = np.flatnonzero(np.array(examples.parts) == part)[:count]
    np.savez(
        path, pixels=np.stack([examples.items[index] for index in chosen])[:, None], labels=examples.labels[chosen]
    )


def train_danlu(words: list[str], folder: Path) -> dict[str, Any]:
    """`danlu train fashion-mnist …` as a user types it first on a machine."""
    command = [danlu_command(), "train", DATA, *words]
    seconds, done = report.run_process(
        command, folder=folder, DANLU_RUNS=folder / "runs", DANLU_CACHE=fresh_cache(folder)
    )
    run = Run(Path(done.stdout.strip().splitlines()[-1]))
    status, history = run.status(), run.history()
    if status["test_looks"] != 1:
        raise SystemExit(f"danlu looked at the test part {status['test_looks']} times")
    return {
        "test_accuracy": [status["test"]["accuracy"]],
        "seconds": [row["seconds"] for row in history],
        "process_seconds": seconds,
        "images": status["parts"]["train"],
        "config": run.config_file.read_text(encoding="utf-8"),
    }


def table(results: dict[str, list[dict[str, Any]]], danlu: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for who, found in results.items():
        accuracy = [result["test_accuracy"][-1] for result in found]
        training, reference = ([[sum(result["seconds"])] for result in of] for of in (found, danlu))
        gave_up = found is not danlu and min(accuracy) < TARGET
        rows.append(
            {
                "competitor": who,
                "n": len(found),
                "test accuracy, mean": f"{statistics.mean(accuracy):.2%}",
                "each seed": ", ".join(f"{value:.2%}" for value in accuracy),
                f"≥ {TARGET:.1%}": "yes" if statistics.mean(accuracy) >= TARGET else "no",
                "epochs": ", ".join(str(len(result["seconds"])) for result in found),
                "seconds, training": report.spread([seconds for (seconds,) in training]),
                "seconds, process": report.spread([result["process_seconds"] for result in found]),
                "this ÷ danlu": "> " * gave_up + report.ratio(training, reference),
            }
        )
    return rows


def _keep(results: dict[str, list[dict[str, Any]]], who: str, result: dict[str, Any]) -> None:
    results[who].append(result)
    told = f"{result['test_accuracy'][-1]:.2%}   {sum(result['seconds']):.1f} s"
    report.say(f"seed {len(results[who]) - 1}   {who}   {told}")


if __name__ == "__main__":
    main()
