"""The folder of a study: what is in it and under which names. No other file of danlu spells these names."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base.errors import ConfigError, MachineError
from danlu.base.files import make_folder, write_json
from danlu.base.registry import nearest_names
from danlu.base.runs import read_own_json, studies_folder

FORMAT = 1
_NAME = re.compile(r"[^\W_][\w.-]{0,99}")


@dataclass(frozen=True)
class Study:
    """One search with all it wrote."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def status_file(self) -> Path:
        return self.folder / "study.json"

    @property
    def space_file(self) -> Path:
        return self.folder / "space.yaml"

    @property
    def best_file(self) -> Path:
        return self.folder / "best.yaml"

    @property
    def journal_file(self) -> Path:
        return self.folder / "journal.log"

    @property
    def trials_file(self) -> Path:
        return self.folder / "trials.csv"

    @property
    def importance_file(self) -> Path:
        return self.folder / "importance.json"

    @property
    def page_file(self) -> Path:
        return self.folder / "study.html"

    @property
    def lock_file(self) -> Path:
        return self.folder / ".lock"

    def __str__(self) -> str:
        return str(self.folder)

    def status(self) -> dict[str, Any]:
        """`study.json`: state, data, settings and results. Raises `ModelError` when it is damaged or newer."""
        return read_own_json(self.status_file)

    def update(self, **values: Any) -> None:
        """Change entries of `study.json`; only who holds the study does."""
        before = self.status() if self.status_file.exists() else {"format": FORMAT}
        write_json(self.status_file, {**before, **values})

    def importance(self) -> Mapping[str, float]:
        """Share of the score's spread by key; empty where too little was tried to tell."""
        return dict(read_own_json(self.importance_file)["importance"]) if self.importance_file.exists() else {}

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only process that leads this search on this machine. Raises `MachineError` when another one does."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.lock_file, timeout=0.5)
        try:
            lock.acquire()
        except Timeout:
            process = self.status().get("process", "unknown")
            raise MachineError(
                f"the study `{self}` is in use by process {process}",
                hint="wait for it or stop it first; `--workers K` gives one search several processes",
            ) from None
        except OSError as error:
            raise MachineError(
                f"cannot write in `{self}`: {error.strerror or error}", hint="make the folder writable"
            ) from error
        try:
            yield
        finally:
            lock.release()


def create_study(name: str | None, base: str) -> Study:
    """A new folder below `studies_folder()`, named `name` or time and `base`. Raises `ConfigError` for a bad name."""
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a study", hint="letters, digits, `-`, `_` and `.`")
    if name is None:
        plain = re.sub(r"[^\w.-]+", "-", base).strip("-.") or "study"
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{plain}"[:80]
        name, count = stem, 2
        while (studies_folder() / name).exists():
            name, count = f"{stem}-{count}", count + 1
    study = Study(studies_folder() / name)
    make_folder(study.folder)
    return study


def existing_study(name: str) -> Study | None:
    """The study of that name that was begun, if there is one."""
    study = Study(studies_folder() / name)
    return study if os.path.isfile(study.status_file) else None


def find_study(place: str | Path) -> Study:
    """The study at a path, or of that name below `studies_folder()`. Raises `ConfigError` with the nearest names."""
    for folder in (Path(place), studies_folder() / Path(place)):
        if os.path.isfile(Study(folder).status_file):
            return Study(folder)
    home = studies_folder()
    names = [path.name for path in home.iterdir() if Study(path).status_file.is_file()] if home.is_dir() else []
    told = nearest_names(Path(place).name, names) if names else f"there is none below `{home}` yet"
    raise ConfigError(f"no study `{place}`; {told}", hint="`danlu tune DATA` starts one")
