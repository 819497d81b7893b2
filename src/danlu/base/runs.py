"""The run folder: what is in it and under which names. No other file of danlu spells these names."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base.errors import ConfigError, MachineError, ModelError
from danlu.base.files import write_json, write_text
from danlu.base.registry import nearest_names

FORMAT = 1
LATEST = "latest"
_NAME = re.compile(r"[^\W_][\w.-]{0,99}")


def runs_folder() -> Path:
    """`DANLU_RUNS`, else `runs` below the working folder."""
    return Path(os.environ.get("DANLU_RUNS") or "runs")


@dataclass(frozen=True)
class Run:
    """One training with all it wrote."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def status_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def manifest_file(self) -> Path:
        return self.folder / "manifest.csv"

    @property
    def history_file(self) -> Path:
        return self.folder / "history.jsonl"

    @property
    def model_file(self) -> Path:
        return self.folder / "model.json"

    @property
    def checkpoints_folder(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def unreadable_file(self) -> Path:
        return self.folder / "unreadable.csv"

    @property
    def evaluation_file(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def record_file(self) -> Path:
        return self.folder / "record.md"

    def __str__(self) -> str:
        return str(self.folder)

    def status(self) -> dict[str, Any]:
        """`run.json`: state, data, model, times and results. Raises `ModelError` when it is damaged or newer."""
        return _read_json(self.status_file)

    def started(self) -> str:
        """When training started, as ISO time; empty when `run.json` is damaged, which `status` reports."""
        try:
            return str(self.status().get("started", ""))
        except ModelError:
            return ""

    def update(self, **values: Any) -> None:
        """Change entries of `run.json`."""
        before = self.status() if self.status_file.exists() else {"format": FORMAT}
        write_json(self.status_file, {**before, **values})

    def model(self) -> dict[str, Any]:
        """`model.json`: kind, classes, architecture and preprocessing."""
        if not self.model_file.exists():
            state = self.status().get("state")
            raise ModelError(f"`{self.folder}` has no model (state: {state})", hint="`danlu runs` shows all runs")
        return _read_json(self.model_file)

    def history(self) -> list[dict[str, Any]]:
        """One row an epoch; an unfinished last line is left out."""
        if not self.history_file.exists():
            return []
        rows = []
        for line in self.history_file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def add_history(self, row: dict[str, Any]) -> None:
        try:
            with open(self.history_file, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
        except OSError as error:
            raise MachineError(f"cannot write `{self.history_file}`: {error.strerror}") from error

    def keep_history(self, rows: list[dict[str, Any]]) -> None:
        """Write the history anew, for a resume that goes back to the last checkpoint."""
        write_text(self.history_file, "".join(json.dumps(row) + "\n" for row in rows))


def create_run(name: str | None, base: str) -> Run:
    """A new folder below `runs_folder()`, named `name` or time and `base`, and `latest` pointing to it.

    Raises `ConfigError` for a name that is taken or not a plain folder name.
    """
    if name is not None and (not _NAME.fullmatch(name) or name == LATEST):
        raise ConfigError(f"{name!r} cannot name a run", hint="letters, digits, `-`, `_` and `.`, and not `latest`")
    home = runs_folder()
    if (home / LATEST).is_dir() and not (home / LATEST).is_symlink():
        raise MachineError(f"`{home / LATEST}` is a folder, not the link to the newest run", hint="rename or remove it")
    if name is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        plain = re.sub(r"[^\w.-]+", "-", base).strip("-.") or "run"
        name = f"{stamp}-{plain}"[:80]
        count = 2
        while (home / name).exists():
            name = f"{name.removesuffix(f'-{count - 1}')}-{count}"
            count += 1
    run = Run(home / name)
    if run.folder.exists():
        raise ConfigError(
            f"the run `{run.folder}` exists already", hint=f"go on with it: `danlu train --resume {run.folder}`"
        )
    try:
        run.folder.mkdir(parents=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the run folder `{run.folder}`: {error.strerror}",
            hint="choose another place with `DANLU_RUNS=…`",
        ) from error
    point_latest(run)
    return run


def point_latest(run: Run) -> None:
    """Make `runs/latest` a link to this run, in one step."""
    latest = run.folder.parent / LATEST
    temporary = run.folder.parent / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    os.symlink(run.name, temporary)
    os.replace(temporary, latest)


def find_run(place: str | Path) -> Run:
    """The run at a path, or of that name below `runs_folder()`. Raises `ConfigError` with the nearest names."""
    for folder in (Path(place), runs_folder() / Path(place)):
        if os.path.isfile(folder / "run.json"):  # unlike Path.is_file, also for a name that is too long
            return Run(folder.resolve() if folder.is_symlink() else folder)
    names = [run.name for run in list_runs()]
    told = nearest_names(Path(place).name, names) if names else f"there is none below `{runs_folder()}` yet"
    raise ConfigError(f"no run `{place}`; {told}", hint="`danlu runs` shows all runs")


def list_runs() -> list[Run]:
    """All runs, oldest first."""
    home = runs_folder()
    if not home.is_dir():
        return []
    runs = [Run(path) for path in home.iterdir() if not path.is_symlink() and (path / "run.json").is_file()]
    return sorted(runs, key=lambda run: (run.started(), run.name))


def splits_folder() -> Path:
    """Where the split of each data set is kept for the next run on it."""
    return runs_folder() / ".splits"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = int(values["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"`{path}` is damaged or missing: {error}") from error
    if found > FORMAT:
        raise ModelError(f"`{path}` has format {found}, this danlu reads up to {FORMAT}", hint="install a newer danlu")
    return dict(values)
