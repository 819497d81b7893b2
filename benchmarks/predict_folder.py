"""Seconds of `danlu predict` for 10,000 photos of 500 x 375 pixels in a folder, and of decoding them alone.

Target: decode-bound, that is at most 1.2 times the seconds in which as many threads only read, decode and fit the
same files. Whole processes, in turn.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import report
from PIL import Image
from startup import danlu_command

import danlu
from danlu.base.bundle import open_bundle
from danlu.base.settings import DataSettings
from danlu.sources.known import read

COUNT, TRAINED_ON = 10_000, 600
WIDTH, HEIGHT = 500, 375
NOISE = 12  # of 255, which makes files of about 40 kB; smooth pictures would be smaller than photos are
TARGET = 1.2
MODELS, SIDE = ("fast_cnn", "vgg_cnn"), 64


def main() -> None:
    parser = report.parser(__doc__, rounds=3)
    arguments = parser.parse_args()
    count = 500 if arguments.quick else COUNT
    facts = report.start_facts(arguments)
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        os.environ["DANLU_RUNS"] = str(folder / "runs")
        write_photos(folder / "some", TRAINED_ON, classes=True)
        photos = write_photos(folder / "photos", count)
        runs = {model: exported(folder / "some", model) for model in MODELS}
        light = runs[MODELS[0]].folder.resolve()
        script = report.HERE / "peers" / "decode_only.py"
        peer = [sys.executable, script, "--run", light, "--data", photos]
        commands: dict[str, list[str | Path]] = {
            "decoding alone, 1 thread": [*peer, "--threads", "1"],
            "decoding alone, all cores": peer,
        }
        places = {f"{model}, bundle": run.bundle_folder.resolve() for model, run in runs.items()}
        for what, place in {**places, f"{MODELS[0]}, PyTorch": light}.items():
            commands[f"danlu predict, {what}"] = [danlu_command(), "predict", place, photos]
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(arguments.rounds + 1):
            for who, command in commands.items():
                taken = report.run_process(command, folder=folder)[0]
                if round_:  # the first round brings the files into the operating system's cache
                    seconds[who].append(taken)
                    report.say(f"round {round_}/{arguments.rounds}   {who}   {taken:.2f} s")
        size = sum(path.stat().st_size for path in photos.iterdir()) / count
        alone = {model: count / fastest(run) for model, run in runs.items()}
    report.publish(
        arguments,
        "predict_folder",
        "Answers for a folder of photos",
        facts,
        table(seconds, count),
        seconds,
        [
            f"{count:,} JPEGs of {WIDTH} x {HEIGHT}, {size / 1e3:.0f} kB each, into {SIDE} x {SIDE}",
            "computing alone, as the bundles measured it: "
            + ", ".join(f"{seconds:.2f} s for {model}" for model, seconds in alone.items()),
            f"target: the bundle of {MODELS[0]} at most {TARGET:g} times decoding alone on all cores",
        ],
    )


def exported(data: Path, model: str) -> danlu.Run:
    run = danlu.train(data, {"training.epochs": 1, "model.name": model, "data.image_size": SIDE}, name=model)
    danlu.export(run, "int8", max_drop=0.9)
    return run


def fastest(run: danlu.Run) -> float:
    """Examples a second, by 64, of the variant that answers."""
    rows = json.loads((run.bundle_folder / "engines.json").read_text(encoding="utf-8"))["shipped"]
    default = open_bundle(run.bundle_folder).content["default"]
    return float(next(row["speed"]["per_second"] for row in rows if row["name"] == default))


def write_photos(folder: Path, count: int, *, classes: bool = False) -> Path:
    """Fashion-MNIST's first pictures, enlarged, in colour and with noise."""
    examples = read("fashion-mnist", DataSettings())
    rng = np.random.default_rng(0)
    noise = rng.normal(0, NOISE, (8, HEIGHT, WIDTH, 3)).astype(np.float32)
    for index in range(count):
        gray = Image.fromarray(examples.items[index]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        pixels = np.asarray(gray, np.float32)[:, :, None] * rng.uniform(0.5, 1, 3).astype(np.float32) + noise[index % 8]
        place = folder / str(examples.labels[index]) if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{index:05d}.jpg", quality=85)
    return folder


def table(seconds: dict[str, list[float]], count: int) -> list[dict[str, Any]]:
    floor = [[taken] for taken in seconds["decoding alone, all cores"]]
    return [
        {
            "whole process": who,
            "n": len(taken),
            "seconds": report.spread(taken, ".2f"),
            "photos/s": round(count / report.summarize(taken)["median"]),
            "÷ decoding on all cores": report.ratio([[one] for one in taken], floor),
        }
        for who, taken in seconds.items()
    ]


if __name__ == "__main__":
    main()
