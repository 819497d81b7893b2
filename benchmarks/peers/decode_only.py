"""Read, decode and fit every image of a folder as a run's preprocessing does, and nothing else."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from danlu.base.machine import available_cores
from danlu.base.runs import Run
from danlu.inputs.images import decode_image, read_file
from danlu.prediction.predictor import recipe_of

CHUNK = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=available_cores())
    arguments = parser.parse_args()
    recipe = recipe_of(Run(arguments.run).model())
    paths = sorted(arguments.data.iterdir())

    def decode(chunk: list[Path]) -> int:
        return sum(decode_image(read_file(path), recipe).shape[0] > 0 for path in chunk)

    with ThreadPoolExecutor(arguments.threads) as pool:
        chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
        print(sum(pool.map(decode, chunks)))


if __name__ == "__main__":
    main()
