"""cleanvision on a folder of images: all the checks it has by default, or those for copies alone.

Copies are told as groups of file names below the folder. Its near copies are pictures of one perceptual hash.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import contract
from cleanvision import Imagelab

COPIES = {"exact": "exact_duplicates", "near": "near_duplicates"}


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--copies-only", action="store_true", help="no other checks")
    parser.add_argument("--jobs", type=int, help="processes; default: cleanvision's own choice")
    arguments = parser.parse_args()
    folder = Path(arguments.data).resolve()
    checks = {name: {} for name in COPIES.values()} if arguments.copies_only else None
    started = time.perf_counter()
    lab = Imagelab(data_path=str(folder), verbose=False)
    lab.find_issues(checks, n_jobs=arguments.jobs, verbose=False)
    seconds = time.perf_counter() - started
    contract.give_back(
        arguments,
        ("cleanvision", "imagehash", "pillow", "numpy"),
        work_seconds=seconds,
        examples=len(lab.issues),
        **{kind: named(folder, lab.info[check]["sets"]) for kind, check in COPIES.items()},
    )


def named(folder: Path, groups: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[Path(path).relative_to(folder).as_posix() for path in group] for group in groups]


if __name__ == "__main__":
    main()
