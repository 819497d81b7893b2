"""Training images per second of the 784-256-128-10 network on Fashion-MNIST, danlu against its peers.

Every competitor trains on the images of danlu's train part, batch 64, Adam at 1e-3, loss and accuracy kept for every
batch, no validation in any clock, in a process of its own: one warm-up epoch, then the timed ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report

from danlu.base.config import read_config
from danlu.base.machine import available_cores
from danlu.data.prepare import prepare

DATA = "fashion-mnist"
SPLIT = [0.7, 0.1, 0.2]  # danlu's default; the set states its own test part
QUICK_SPLIT = [0.1, 0.7, 0.2]
SAME = -1  # as many threads as danlu chose in this round


@dataclass(frozen=True)
class Competitor:
    """`threads`: 0 leaves PyTorch's default."""

    name: str
    script: str
    words: tuple[str, ...] = ()
    threads: int = 0


def competitors() -> dict[str, Competitor]:
    cores = available_cores()
    same = "threads as danlu chose"
    return {
        "danlu": Competitor("danlu", "mlp_danlu.py"),
        "danlu-all-cores": Competitor(f"danlu, training.threads={cores}", "mlp_danlu.py", (), cores),
        "tutorial": Competitor("tutorial loop, torchvision's steps", "mlp_tutorial.py", ("--pillow",)),
        "tutorial-same": Competitor(
            f"tutorial loop, torchvision's steps, {same}", "mlp_tutorial.py", ("--pillow",), SAME
        ),
        "tensors": Competitor("tutorial loop, tensors only", "mlp_tutorial.py"),
        "tensors-same": Competitor(f"tutorial loop, tensors only, {same}", "mlp_tutorial.py", (), SAME),
        "tensors-2": Competitor("tutorial loop, tensors only, num_workers=2", "mlp_tutorial.py", ("--workers", "2")),
        "torch-tuned": Competitor("PyTorch tuned by hand", "mlp_torch_tuned.py"),
        "torch-tuned-same": Competitor(f"PyTorch tuned by hand, {same}", "mlp_torch_tuned.py", (), SAME),
        "lightning": Competitor("Lightning, defaults", "mlp_lightning.py"),
        "lightning-fast": Competitor("Lightning, all extras off", "mlp_lightning.py", ("--trainer", "fast")),
        "lightning-fast-same": Competitor(
            f"Lightning, all extras off, {same}", "mlp_lightning.py", ("--trainer", "fast"), SAME
        ),
        "lightning-tuned-same": Competitor(
            f"Lightning barebones, tuned, {same}", "mlp_lightning.py", ("--trainer", "tuned"), SAME
        ),
        "keras": Competitor("Keras on JAX, defaults", "mlp_keras.py"),
        "keras-32": Competitor("Keras on JAX, steps_per_execution=32", "mlp_keras.py", ("--steps-per-execution", "32")),
    }


def main() -> None:
    every = competitors()
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--peers", type=Path, required=True, help="python with torch, lightning, keras and jax")
    parser.add_argument("--epochs", type=int, default=2, help="timed epochs a round, after one warm-up epoch")
    parser.add_argument("--only", nargs="+", choices=list(every), help="these beside danlu; default: all")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.epochs = 1, 1
    split = QUICK_SPLIT if arguments.quick else SPLIT
    asked = {key: one for key, one in every.items() if key == "danlu" or key in (arguments.only or every)}
    facts = report.start_facts(arguments)
    peers = Path.cwd() / arguments.peers  # not resolved: a venv is known by the link that starts it
    results: dict[str, list[dict[str, Any]]] = {key: [] for key in asked}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        images = write_train_part(folder / "train.npz", split)
        for round_ in range(arguments.rounds):
            for key, one in asked.items():
                result = run_one(one, arguments.epochs + 1, split, peers, folder, results["danlu"])
                if result["images"] != images:
                    raise SystemExit(f"{one.name} saw {result['images']:,} images, expected {images:,}")
                results[key].append(result)
                report.say(f"round {round_ + 1}/{arguments.rounds}   {one.name}   {max(speeds(result)):,.0f} images/s")
    versions: dict[str, str] = {}
    for found in results.values():
        versions.update({f"{name} (peers)": value for name, value in found[-1]["versions"].items()})
    report.publish(
        arguments,
        "mlp_throughput",
        "Training throughput of a 784-256-128-10 network on Fashion-MNIST",
        {**facts, "peers": versions, "images": images},
        table(asked, results),
        results,
        [
            f"{images:,} train images, batches of 64, Adam, float32, processor only; one warm-up epoch a process",
            "danlu ÷ this: danlu's median divided by this one's within a round; the median of the rounds (and range)",
            "train accuracy in the last epoch is shown to tell that all of them learn; it is no result",
        ],
    )


def write_train_part(path: Path, split: list[float]) -> int:
    """The images danlu will train on, for everyone."""
    settings = read_config(settings={"data.split": split}).settings
    part = prepare(DATA, settings.data).parts["train"]
    np.savez(path, pixels=np.asarray(part.inputs), labels=part.labels)
    return len(part)


def run_one(
    one: Competitor, epochs: int, split: list[float], peers: Path, folder: Path, danlu_results: list[dict[str, Any]]
) -> dict[str, Any]:
    is_danlu = one.script == "mlp_danlu.py"
    threads = danlu_results[-1]["threads"] if one.threads == SAME else one.threads
    data = ["--data", DATA, "--split", json.dumps(split)] if is_danlu else ["--data", folder / "train.npz"]
    command = [sys.executable if is_danlu else peers, report.HERE / "peers" / one.script, *data, *one.words]
    command += ["--epochs", str(epochs), "--threads", str(threads)]
    return report.run_child(command, folder=folder, DANLU_RUNS=folder / "runs")


def speeds(result: dict[str, Any]) -> list[float]:
    """Images per second of the epochs after the warm-up."""
    return [result["images"] / seconds for seconds in result["seconds"][1:]]


def table(asked: dict[str, Competitor], results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for key, one in asked.items():
        by_round = [speeds(result) for result in results[key]]
        spread = report.summarize([value for values in by_round for value in values])
        rows.append(
            {
                "competitor": one.name,
                "n": spread["n"],
                "images/s, median": spread["median"],
                "min": spread["min"],
                "max": spread["max"],
                "danlu ÷ this": report.ratio([speeds(result) for result in results["danlu"]], by_round),
                "threads": ", ".join(sorted({str(result["threads"]) for result in results[key]})),
                "train accuracy": round(results[key][-1]["accuracy"], 4),
            }
        )
    return rows


if __name__ == "__main__":
    main()
