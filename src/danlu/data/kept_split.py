"""The split of each data set, kept for ever: an example never moves to another part in a later run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.base.files import append_text, make_folder, write_text
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
    make_folder(path.parent)
    here = {row.sha256 for row in manifest}
    gone = [row for row in earlier_split(data, settings) if row.sha256 not in here]
    write_manifest(path, [*manifest, *gone])


def count_look(rows: Sequence[ManifestRow], run: str) -> tuple[int, int]:
    """Note that a run was scored on these examples; how often they have been looked at so far, and for how many runs.

    A look at other examples counts when at least half of these were among them. Whoever chooses among models by looking
    again and again fits them to the examples.
    """
    contents = {row.sha256 for row in rows}
    digest = hashlib.sha256("\n".join(sorted(contents)).encode()).hexdigest()[:12]
    home = splits_folder()
    make_folder(home)
    examples = home / f"looked-at-{digest}.txt"
    if not examples.exists():
        write_text(examples, "\n".join(sorted(contents)) + "\n")
    append_text(home / f"looks-{digest}.txt", f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {run}\n")
    runs: list[str] = []
    for path in home.glob("looked-at-*.txt"):
        seen = set(path.read_text(encoding="utf-8").split())
        looks = home / path.name.replace("looked-at-", "looks-")
        if looks.exists() and len(seen & contents) >= len(contents) / 2:
            runs += [line.partition(" ")[2] for line in looks.read_text(encoding="utf-8").splitlines() if line]
    return len(runs), len(set(runs))


def short_name(data: str | Path) -> str:
    """A folder name made of the name of the data.

    >>> short_name("fashion-mnist")
    'fashion-mnist'
    """
    path = Path(data)
    name = path.resolve().name if path.exists() else str(data)
    stem = Path(name).stem if path.is_file() else name
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in stem)[:40].strip(".-") or "data"


def own_folder_name(data: str | Path) -> str:
    """A folder name for one place alone: two files of one name in different folders have different ones."""
    if not Path(data).exists():
        return short_name(data)
    place = str(Path(data).resolve())
    return f"{short_name(data)}-{hashlib.sha256(place.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"


def _split_file(data: str | Path, settings: DataSettings) -> Path:
    place = str(Path(data).resolve()) if Path(data).exists() else f"known:{data}"
    key = f"{place} {settings.split} {settings.split_seed} {settings.group_column}"
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return splits_folder() / f"{short_name(data)}-{digest}.csv"
