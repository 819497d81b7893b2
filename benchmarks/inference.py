"""Milliseconds of an exported model for one example and for 64, beside PyTorch, onnxruntime as it comes and OpenVINO.

Targets: danlu's fp32 takes at most 1.05 times the best of the others, which compute in float32 too; its int8 is twice
as fast as its fp32 for `vgg_cnn`. Each engine runs in a process of its own, on all cores (danlu on as many threads as
it measured to be best), and the engines take turns. Then `danlu predict` as a whole process: through the bundle, and
through PyTorch.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import report
from startup import danlu_command

import danlu
from danlu.exporting.held_out import held_out
from danlu.inputs.texts import pad_rows

TARGET, INT8_TARGET, PROCESS_TARGET = 1.05, 2.0, 4.0
OTHERS = ("torch eager", "torch.compile", "onnxruntime, default", "OpenVINO")
OWN = ("danlu fp32", "danlu int8")
IMAGE_MODELS, TEXT_MODELS = ("mlp", "simple_cnn", "digit_cnn", "vgg_cnn", "fast_cnn"), ("ngrams", "textcnn", "bilstm")
BATCH = 64


def main() -> None:
    parser = report.parser(__doc__, rounds=5)
    parser.add_argument("--models", nargs="+", default=list(IMAGE_MODELS), help="trained on the digits, at 28 pixels")
    parser.add_argument("--reviews", type=Path, help="a table of texts, for the text models")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.models = 1, ["mlp"]
    facts = report.start_facts(arguments, peers={name: version(name) for name in ("onnxruntime", "openvino")})
    rows: list[dict[str, Any]] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        os.environ["DANLU_RUNS"] = str(folder / "runs")
        models = [*arguments.models, *(TEXT_MODELS if arguments.reviews else ())]
        for model in models:
            run = exported(model, arguments.reviews)
            samples[model] = [one_round(run, model, folder) for _ in range(arguments.rounds)]
            report.say(f"{model}: {len(samples[model])} rounds")
            rows += table(model, samples[model])
        samples["processes"] = processes(run, folder, arguments.rounds)
    whole = samples["processes"]
    spread = {name: report.spread(seconds, ".2f") for name, seconds in whole.items()}
    times = statistics.median(b / a for a, b in zip(whole["bundle"], whole["torch"], strict=True))
    report.publish(
        arguments,
        "inference",
        "Exported models beside other engines",
        facts,
        rows,
        samples,
        notes=[
            f"`danlu predict` for one input, whole process: {spread['bundle']} s through the bundle,"
            f" {spread['torch']} s through PyTorch, {times:.1f} times as long (target: at least {PROCESS_TARGET:g})",
            "wrong: probabilities that differ from PyTorch's by more than 1e-4, so that the time does not count",
            "÷ best: danlu's milliseconds divided by those of the engine with the lowest median, within each round",
            "by the fastest rounds: danlu's lowest time by the lowest of all others, since neighbours only ever add",
            "texts: all engines get one padded array; danlu's takes it apart into texts of about the same length",
        ],
    )


def exported(model: str, reviews: Path | None) -> danlu.Run:
    """A run of one epoch with a bundle of fp32 and int8; how well it answers matters to no time."""
    data: Any = reviews if model in TEXT_MODELS else "digits"
    settings = {"model.name": model, "training.epochs": 1}
    run = danlu.train(data, settings if model in TEXT_MODELS else {**settings, "data.image_size": 28}, name=model)
    danlu.export(run, "int8", max_drop=0.9)
    return run


def one_round(run: danlu.Run, model: str, folder: Path) -> dict[str, dict[str, float]]:
    inputs = held_out(run, ("test",), BATCH).inputs
    np.save(folder / "inputs.npy", inputs if isinstance(inputs, np.ndarray) else pad_rows(inputs))
    found: dict[str, dict[str, float]] = {}
    expected: np.ndarray | None = None
    for engine in (*OTHERS, *OWN):
        script = Path(__file__).parent / "peers" / "infer.py"
        words = [sys.executable, script, "--engine", engine, "--run", run.folder.resolve(), "--inputs", "inputs.npy"]
        told = report.run_child(words, folder=folder)
        probabilities = np.array(told["probabilities"])
        expected = probabilities if expected is None else expected
        is_right = engine == "danlu int8" or bool(np.abs(probabilities - expected).max() <= 1e-4)
        if engine in OWN and not is_right:
            raise SystemExit(f"{engine} does not compute what torch computes for {model}")
        found[engine] = {"1": told["ms_1"], "64": told[f"ms_{BATCH}"], "right": is_right}
    return found


def table(model: str, rounds: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    rows = []
    for size in ("1", "64"):
        row: dict[str, Any] = {"model": model, "examples": int(size)}
        for engine in (*OTHERS, *OWN):
            told = f"{statistics.median(found[engine][size] for found in rounds):.3f}"
            row[engine] = told if rounds[0][engine]["right"] else f"{told} (wrong)"
        right = [engine for engine in OTHERS if rounds[0][engine]["right"]]
        best_engine = min(right, key=lambda engine: statistics.median(found[engine][size] for found in rounds))
        best = [found[best_engine][size] for found in rounds]
        own = [found["danlu fp32"][size] for found in rounds]
        row["fp32 ÷ best"] = report.ratio([[value] for value in own], [[value] for value in best])
        fastest = min(found[engine][size] for found in rounds for engine in right)
        row["by the fastest rounds"] = f"{min(own) / fastest:.2f}"
        eight = [[found["danlu int8"][size]] for found in rounds]
        row["fp32 ÷ int8"] = report.ratio([[value] for value in own], eight)
        rows.append(row)
    return rows


def processes(run: danlu.Run, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of `danlu predict` for one held-out input, in turn through the bundle and through PyTorch."""
    item = held_out(run, ("test",), 1).items[0]
    path = folder / ("one.txt" if isinstance(item, str) else "one.png")
    path.write_bytes(item.encode() if isinstance(item, str) else item)  # the digits are in no file: bytes of a PNG
    seconds: dict[str, list[float]] = {"bundle": [], "torch": []}
    for round_ in range(rounds + 1):
        for name, model in (("bundle", run.bundle_folder), ("torch", run.folder)):
            taken = report.run_process([danlu_command(), "predict", model.resolve(), path], folder=folder)[0]
            if round_:
                seconds[name].append(taken)
    return seconds


if __name__ == "__main__":
    main()
