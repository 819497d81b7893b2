"""What the throughput benchmarks share: competitors that train one network on danlu's train part, in turn."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report

from danlu.base.config import read_config
from danlu.base.machine import cache_folder
from danlu.data.prepare import prepare
from danlu.training.choose import choose_training

DATA = "fashion-mnist"
SAME = -1  # as many threads as danlu chose in this round
DANLU = "train_danlu.py"

Results = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Competitor:
    """`threads`: 0 leaves PyTorch's default. `python`: the argument that names the Python a peer runs in."""

    name: str
    script: str
    words: tuple[str, ...] = ()
    threads: int = 0
    python: str = "peers"


def parser(
    description: str | None, every: Mapping[str, Competitor], pythons: Mapping[str, str]
) -> argparse.ArgumentParser:
    """The arguments of a throughput benchmark; `pythons`: what each Python that peers run in has to have."""
    made = report.parser(description, rounds=3)
    for name, packages in pythons.items():
        made.add_argument(f"--{name}", type=Path, required=True, help=f"python with {packages}")
    made.add_argument("--epochs", type=int, default=2, help="timed epochs a round, after one warm-up epoch")
    made.add_argument("--only", nargs="+", choices=list(every), help="these beside danlu; default: all")
    return made


def asked_for(every: Mapping[str, Competitor], arguments: argparse.Namespace) -> dict[str, Competitor]:
    return {key: one for key, one in every.items() if key == "danlu" or key in (arguments.only or every)}


def run_in_turn(
    arguments: argparse.Namespace,
    asked: Mapping[str, Competitor],
    network: str,
    split: list[float],
    before_round: Callable[[Path], None] = lambda folder: None,
) -> tuple[int, Results]:
    """(images of an epoch, what each competitor gave back in each round).

    danlu measures anew in every round what is fastest on this machine, as the command does when it first runs there.
    """
    results: Results = {key: [] for key in asked}
    danlu_words = ["--split", json.dumps(split), "--as-for-steps", str(steps_of_command(network))]
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        images = write_train_part(folder / "train.npz", split)
        for round_ in range(arguments.rounds):
            cache = fresh_cache(folder)
            before_round(folder)
            for key, one in asked.items():
                threads = results["danlu"][-1]["threads"] if one.threads == SAME else one.threads
                common = ["--network", network, "--epochs", str(arguments.epochs + 1), "--threads", str(threads)]
                if one.script == DANLU:
                    python, words = Path(sys.executable), ["--data", DATA, *danlu_words]
                else:  # not resolved: a venv is known by the link that starts it
                    python, words = Path.cwd() / getattr(arguments, one.python), ["--data", folder / "train.npz"]
                command = [python, report.HERE / "peers" / one.script, *words, *common, *one.words]
                result = report.run_child(command, folder=folder, DANLU_RUNS=folder / "runs", DANLU_CACHE=cache)
                if result["images"] != images:
                    raise SystemExit(f"{one.name} saw {result['images']:,} images, expected {images:,}")
                results[key].append(result)
                report.say(f"round {round_ + 1}/{arguments.rounds}   {one.name}   {max(speeds(result)):,.0f} images/s")
    return images, results


def write_train_part(path: Path, split: list[float]) -> int:
    """The images danlu will train on, for everyone."""
    settings = read_config(settings={"data.split": split}).settings
    part = prepare(DATA, settings.data).parts["train"]
    np.savez(path, pixels=np.asarray(part.inputs), labels=part.labels)
    return len(part)


def steps_of_command(network: str) -> int:
    """Those of `danlu train fashion-mnist model.name=NETWORK`."""
    config = read_config(settings={"model.name": network})
    prepared = prepare(DATA, config.settings.data)
    choices = choose_training(config, prepared)
    epochs, batch_size = (int(choices[f"training.{name}"][0]) for name in ("epochs", "batch_size"))
    return epochs * -(-len(prepared.parts["train"]) // batch_size)


def fresh_cache(folder: Path) -> Path:
    """A cache for danlu that knows the data sets of this machine and nothing of its speed."""
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    (cache / "data").symlink_to(cache_folder().resolve() / "data", target_is_directory=True)
    return cache


def speeds(result: Mapping[str, Any]) -> list[float]:
    """Images per second of the epochs after the warm-up."""
    return [result["images"] / seconds for seconds in result["seconds"][1:]]


def versions(asked: Mapping[str, Competitor], results: Results) -> dict[str, str]:
    """The packages of the peers; danlu's own are among the facts."""
    return {
        f"{name} ({one.python})": value
        for key, one in asked.items()
        if one.script != DANLU
        for name, value in results[key][-1]["versions"].items()
    }


def table(asked: Mapping[str, Competitor], results: Results) -> list[dict[str, Any]]:
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


def notes(images: int, results: Results) -> list[str]:
    chosen = {json.dumps(result["chosen"]).strip("{}").replace('"', "") for result in results["danlu"]}
    return [
        f"{images:,} train images, batches of 64, Adam, processor only; one warm-up epoch a process",
        "danlu ÷ this: danlu's median divided by this one's within a round; the median of the rounds (and range)",
        "train accuracy in the last epoch is shown to tell that all of them learn; it is no result",
        f"danlu chose, measuring anew in every round as before the whole command: {' or '.join(sorted(chosen))}",
    ]
