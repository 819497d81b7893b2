"""Seconds until all images of a folder have come by as shuffled, cropped and mirrored float batches of 64; no model.

danlu decodes once and then slices resident tensors; the tutorial's DataLoader opens every file again every epoch.
The files are in the operating system's cache for both; "nothing cached" speaks of danlu's own cache.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
from PIL import Image

from danlu.base.settings import DataSettings
from danlu.sources.known import read

CROP = 4
MADE_FROM = "fashion-mnist"
MADE_COUNT = 6_000


@dataclass(frozen=True)
class Competitor:
    """`first`, `later`: the names of its first and its later epochs in the table, empty where they do not count."""

    script: str
    first: str
    later: str = ""
    words: tuple[str, ...] = ()


COMPETITORS = {
    "danlu": Competitor(
        "folder_danlu.py", "danlu, first epoch, nothing cached", "danlu, later epochs of the same process"
    ),
    "danlu-again": Competitor("folder_danlu.py", "danlu, first epoch of the next process"),
    "danlu-again-1": Competitor(
        "folder_danlu.py",
        "danlu, 1 thread, first epoch of the next process",
        "danlu, 1 thread, later epochs",
        ("--threads", "1"),
    ),
    "pil": Competitor("folder_pil.py", "DataLoader, first epoch", "DataLoader, later epochs"),
    "pil-1": Competitor(
        "folder_pil.py",
        "DataLoader, 1 thread, first epoch",
        "DataLoader, 1 thread, later epochs",
        ("--threads", "1"),
    ),
    "pil-2": Competitor(
        "folder_pil.py",
        "DataLoader, num_workers=2, first epoch",
        "DataLoader, num_workers=2, later epochs",
        ("--workers", "2"),
    ),
    "pil-2-persistent": Competitor(
        "folder_pil.py",
        "DataLoader, num_workers=2, persistent_workers, first epoch",
        "DataLoader, num_workers=2, persistent_workers, later epochs",
        ("--workers", "2", "--persistent"),
    ),
}


def main() -> None:
    parser = report.parser(__doc__, rounds=7)
    parser.add_argument(
        "--data", type=Path, help=f"folder of class folders; default: {MADE_COUNT:,} JPEGs made of {MADE_FROM}"
    )
    parser.add_argument("--later-epochs", type=int, default=3, help="epochs timed after the first, in each process")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.later_epochs = 1, 1
    facts = report.start_facts(arguments)
    results: dict[str, list[dict[str, Any]]] = {key: [] for key in COMPETITORS}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        data = arguments.data.resolve() if arguments.data else write_jpegs(folder / "photos")
        read_once(data)
        for round_ in range(arguments.rounds):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            for key, one in COMPETITORS.items():
                epochs = 1 + (arguments.later_epochs if one.later else 0)
                command = [sys.executable, report.HERE / "peers" / one.script, "--data", data, *one.words]
                command += ["--crop", str(CROP), "--epochs", str(epochs)]
                result = report.run_child(command, folder=folder, DANLU_CACHE=folder / "cache")
                results[key].append(result)
                told = "   ".join(f"{seconds:.3f} s" for seconds in result["seconds"])
                report.say(f"round {round_ + 1}/{arguments.rounds}   {one.first}, then later ones   {told}")
    seen = {(result["images"], *result["shape"]) for found in results.values() for result in found}
    if len(seen) != 1:
        raise SystemExit(f"the competitors did not give the same images: {sorted(seen)}")
    count, dtype, *shape = seen.pop()
    report.publish(
        arguments,
        "folder_pipeline",
        "From a folder of image files to batches",
        {**facts, "images": count, "shape": shape},
        table(results, count),
        results,
        [
            f"{count:,} files as ({', '.join(map(str, shape))}) {dtype}, batches of 64, flip, padded crop {CROP}",
            "first epoch: from the path, with listing the files; for danlu also decoding, hashing, splitting,"
            " statistics and writing or reading its cache; imports are in no clock",
            "this ÷ danlu: within a round, first epochs by danlu's first epoch with nothing cached, later ones by its"
            " later ones; the median of the rounds (and range)",
            f"where no threads are named, PyTorch has its default: {results['danlu'][-1]['threads']}",
        ],
    )


def write_jpegs(folder: Path) -> Path:
    """Fashion-MNIST's first pictures as 32 x 32 colour JPEGs in class folders, where no folder is given."""
    examples = read(MADE_FROM, DataSettings())
    rng = np.random.default_rng(0)
    for index in range(MADE_COUNT):
        gray = np.pad(examples.items[index], 2).astype(np.float32)
        pixels = (gray[:, :, None] * rng.uniform(0.5, 1, 3)).astype(np.uint8)
        place = folder / f"class-{examples.labels[index]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index:05d}.jpg", quality=90)
    return folder


def read_once(folder: Path) -> None:
    """So that no competitor is the one who waits for the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


def table(results: dict[str, list[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    first = [result["seconds"][:1] for result in results["danlu"]]
    later = [result["seconds"][1:] for result in results["danlu"]]
    rows = []
    for key, one in COMPETITORS.items():
        found = [result["seconds"] for result in results[key]]
        rows.append(_row(one.first, [seconds[:1] for seconds in found], first, count))
        if one.later:
            rows.append(_row(one.later, [seconds[1:] for seconds in found], later, count))
    return rows


def _row(name: str, by_round: list[list[float]], danlu: list[list[float]], count: int) -> dict[str, Any]:
    spread = report.summarize([seconds for values in by_round for seconds in values])
    return {
        "epoch": name,
        "n": spread["n"],
        "seconds, median": spread["median"],
        "min": spread["min"],
        "max": spread["max"],
        "images/s": round(count / spread["median"]),
        "this ÷ danlu": report.ratio(by_round, danlu),
    }


if __name__ == "__main__":
    main()
