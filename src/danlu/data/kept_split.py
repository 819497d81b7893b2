"""The split of each data set, kept for ever: an example never moves to another part in a later run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.base.files import append_text
from danlu.base.runs import splits_folder
from danlu.data.split import ManifestRow, read_manifest, write_manifest

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings


def earlier_split(data: str | Path, settings: DataSettings) -> list[ManifestRow]:
    """The split of the last run on this data; empty for the first."""
    path = _split_file(data, settings)
    return read_manifest(path) if path.exists() else []


def keep_split(data: str | Path, settings: DataSettings, manifest: Sequence[ManifestRow]) -> None:
    """Keep this split, and the parts of examples that are gone for now."""
    path = _split_file(data, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    here = {row.sha256 for row in manifest}
    gone = [row for row in earlier_split(data, settings) if row.sha256 not in here]
    write_manifest(path, [*manifest, *gone])


def count_look(rows: Sequence[ManifestRow], run: str) -> tuple[int, int]:
    """Note that a run was scored on these examples; how often they have been looked at so far, and for how many runs.

    Whoever chooses among models by looking again and again fits them to these examples.
    """
    digest = hashlib.sha256("\n".join(sorted(row.sha256 for row in rows)).encode()).hexdigest()[:12]
    path = splits_folder() / f"looks-{digest}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    append_text(path, f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {run}\n")
    looks = [line.partition(" ")[2] for line in path.read_text(encoding="utf-8").splitlines() if line]
    return len(looks), len(set(looks))


def short_name(data: str | Path) -> str:
    """A folder name made of the name of the data.

    >>> short_name("fashion-mnist")
    'fashion-mnist'
    """
    path = Path(data)
    name = path.resolve().name if path.exists() else str(data)
    stem = Path(name).stem if path.is_file() else name
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in stem)[:40].strip(".-") or "data"


def _split_file(data: str | Path, settings: DataSettings) -> Path:
    place = str(Path(data).resolve()) if Path(data).exists() else f"known:{data}"
    key = f"{place} {settings.split} {settings.split_seed} {settings.group_column}"
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return splits_folder() / f"{short_name(data)}-{digest}.csv"
