"""A folder of class folders (`cat/*.jpg`), with or without `train/ val/ test/` on top."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.base.errors import DataError
from danlu.inputs.images import SUFFIXES
from danlu.sources.examples import PART_NAMES, Examples, Problem, class_map, index_labels, look_alike_classes

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings

LAYOUT = "expected one sub-folder a class (`photos/cat/*.jpg`), or the same below `train/`, `val/`, `test/`"


def read(place: str | Path, settings: DataSettings) -> Examples:
    """Image files below class folders, sorted by path; one class map for all parts; stray files are not classes."""
    root = Path(place)
    notes: list[str] = []
    problems: list[Problem] = []
    root = _unwrapped(root, notes)
    tops = _sub_folders(root)
    parts = {name: PART_NAMES[name.lower()] for name in tops if name.lower() in PART_NAMES}
    if parts:
        others = [name for name in tops if name not in parts]
        if others:
            notes.append(f"folders beside {', '.join(parts)} are not read: {', '.join(map(_printable, others))}")
        branches = [(parts[name], root / name) for name in sorted(parts)]
    else:
        branches = [("", root)]
    rows: list[tuple[str, str, str, Path]] = []  # key, class, part, path
    stray: Counter[str] = Counter()
    for part, branch in branches:
        for class_name in _sub_folders(branch):
            for path in _files(branch / class_name, problems, root, (root, branch)):
                if path.suffix.lower() in SUFFIXES:
                    rows.append((_printable(path.relative_to(root)), _printable(class_name), part, path))
                else:
                    stray[path.suffix.lower() or path.name] += 1
        stray.update(e.suffix.lower() or e.name for e in _plain_files(branch))
    if parts:
        stray.update(e.suffix.lower() or e.name for e in _plain_files(root))
    rows.sort()
    _check_found(rows, root, stray)
    if stray:
        kinds = ", ".join(f"{count} × {_printable(name)}" for name, count in sorted(stray.items()))
        notes.append(f"{sum(stray.values())} files are not images of a class and are not read: {kinds}")
    names = [row[1] for row in rows]
    classes = class_map(names, where=f"`{root}`")
    notes += look_alike_classes(classes)
    empty = [name for _, branch in branches for name in map(_printable, _sub_folders(branch)) if name not in classes]
    if empty:
        notes.append(f"folders without an image are not classes: {', '.join(sorted(set(empty)))}")
    layout = f"with parts {', '.join(sorted(parts))}" if parts else "without parts"
    return Examples(
        kind="images",
        items=[row[3] for row in rows],
        labels=index_labels(names, classes),
        classes=classes,
        keys=tuple(row[0] for row in rows),
        parts=tuple(row[2] for row in rows),
        description=f"folder of {len(rows):,} images in {len(classes)} classes, {layout}",
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _unwrapped(root: Path, notes: list[str]) -> Path:
    """Step into a folder that only wraps the real one, as unpacked archives often do."""
    while True:
        tops = _sub_folders(root)
        wraps = len(tops) == 1 and tops[0].lower() not in PART_NAMES and _sub_folders(root / tops[0])
        if not wraps or any(e.suffix.lower() in SUFFIXES for e in _plain_files(root / tops[0])):
            return root
        root = root / tops[0]
        notes.append(f"read from `{_printable(root)}`, the only folder inside")


def _sub_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in _listed(folder) if path.is_dir() and not path.name.startswith("__MACOSX"))


def _plain_files(folder: Path) -> list[Path]:
    """Files, and links that lead nowhere: they are counted too."""
    return [path for path in _listed(folder) if not path.is_dir()]


def _listed(folder: Path) -> list[Path]:
    try:
        return [Path(folder, name) for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read folder `{_printable(folder)}`: {error.strerror}") from error


def _files(folder: Path, problems: list[Problem], root: Path, above: tuple[Path, ...]) -> list[Path]:
    """Every file below `folder`; links are followed once, a loop, a link to a folder `above` or an unreadable folder
    is a problem."""
    found: list[Path] = []
    seen = {(status.st_dev, status.st_ino) for status in map(os.stat, above)}

    def fail(error: OSError) -> None:
        problems.append(
            Problem(_printable(Path(error.filename).relative_to(root)), f"cannot be listed ({error.strerror})")
        )

    for here, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            problems.append(Problem(_printable(Path(here).relative_to(root)), "is a link to a folder read elsewhere"))
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here) / name for name in sorted(files) if not name.startswith(".")]
    return found


def _check_found(rows: list[tuple[str, str, str, Path]], root: Path, stray: Counter[str]) -> None:
    if rows:
        return
    loose = sum(count for suffix, count in stray.items() if suffix in SUFFIXES)
    if loose:
        raise DataError(f"`{root}` holds {loose:,} images but no class folders", hint=LAYOUT)
    raise DataError(f"`{root}` holds no images", hint=LAYOUT + "; read are " + " ".join(SUFFIXES))


def _printable(path: Path | str) -> str:
    """A name as text that can be written as UTF-8, also where the bytes on disk are not UTF-8."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")
