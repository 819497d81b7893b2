"""The run folder: what is in it and under which names. No other file of danlu spells these names."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base.bundle import EXPORTED, MARK, is_bundle
from danlu.base.errors import ConfigError, MachineError, ModelError
from danlu.base.files import SEAL, append_text, digest_of, point_link, remove_folder, write_json, write_text
from danlu.base.machine import is_alive
from danlu.base.registry import nearest_names

FORMAT = 1
LATEST = "latest"
OWN = "own"  # the kind of a run of a module and batches of the user's own
OF_AN_EVALUATION = (
    "accuracy",
    "intervals",
    "averages",
    "per_class",
    "confusion",
    "calibration",
    "rejection",
    "examples",
    "part_looks",
    "part_runs",
)
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
    def steps_file(self) -> Path:
        return self.folder / "steps.jsonl"

    @property
    def watched_file(self) -> Path:
        return self.folder / "watched.jsonl"

    @property
    def first_step_file(self) -> Path:
        return self.folder / "first_step.json"

    @property
    def findings_file(self) -> Path:
        return self.folder / "findings.json"

    @property
    def diagnosis_file(self) -> Path:
        return self.folder / "diagnosis.html"

    @property
    def tensorboard_folder(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def lock_file(self) -> Path:
        return self.folder / ".lock"

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
    def calibration_file(self) -> Path:
        return self.folder / "calibration.json"

    @property
    def gate_file(self) -> Path:
        return self.folder / "gate.json"

    @property
    def gallery_file(self) -> Path:
        return self.folder / "gallery.json"

    @property
    def explanations_file(self) -> Path:
        return self.folder / "explanations.json"

    @property
    def bundle_folder(self) -> Path:
        return self.folder / "bundle"

    @property
    def exports_folder(self) -> Path:
        return self.folder / "exports"

    @property
    def charts_folder(self) -> Path:
        return self.folder / "charts"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.html"

    def answers_file(self, part: str) -> Path:
        return self.folder / f"answers-{part}.csv"

    @property
    def record_file(self) -> Path:
        return self.folder / "record.md"

    def __str__(self) -> str:
        return str(self.folder)

    def status(self) -> dict[str, Any]:
        """`run.json`: state, data, model, times and results. Raises `ModelError` when it is damaged or newer."""
        return read_own_json(self.status_file)

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

    def forget_evaluation(self) -> None:
        """Remove what was said of weights that change now."""
        of_the_weights = (self.evaluation_file, self.answers_file("test"), self.gallery_file, self.explanations_file)
        for path in (*of_the_weights, self.findings_file, self.diagnosis_file):
            path.unlink(missing_ok=True)
        for folder in (self.bundle_folder, self.exports_folder):
            remove_folder(folder)
        self.report_file.unlink(missing_ok=True)
        self.update(test=None)

    def model(self) -> dict[str, Any]:
        """`model.json`: kind, classes, architecture and preprocessing."""
        if not self.model_file.exists():
            if self.is_own():
                raise ModelError(
                    f"`{self.folder}` trained a module of your own, which danlu cannot build from its folder",
                    hint=f"its best weights are in `{self.checkpoints_folder}`, and the trainer's module has them",
                )
            state = self.status().get("state")
            raise ModelError(f"`{self.folder}` has no model (state: {state})", hint="`danlu runs` shows all runs")
        values = read_own_json(self.model_file)
        missing = [key for key in ("name", "classes", "options") if key not in values]
        if missing:
            raise ModelError(f"`{self.model_file}` is damaged: it has no {missing[0]!r}")
        return values

    def is_own(self) -> bool:
        """Whether it trained a module and batches of the user's own, which are not in the folder."""
        return bool(self.status().get("kind") == OWN)

    def way_to_go_on(self) -> str:
        """What goes on with it after an interruption."""
        if self.is_own():
            return f"`danlu.train_own(trainer, {self.name!r})` in your program"
        return f"`danlu train --resume {self}`"

    def calibration(self) -> dict[str, Any] | None:
        """`calibration.json`; None for a run that has not come so far."""
        return read_own_json(self.calibration_file) if self.calibration_file.exists() else None

    def gate(self) -> dict[str, Any] | None:
        """`gate.json`: whether the data gate was on, and what it found; None for a run made without one."""
        return read_own_json(self.gate_file) if self.gate_file.exists() else None

    def evaluation(self) -> dict[str, Any] | None:
        """`evaluation.json`; None for a run that was not evaluated. Raises `ModelError` when it is damaged."""
        if not self.evaluation_file.exists():
            return None
        hint = f"`danlu evaluate {self}` writes it anew"
        values = read_own_json(self.evaluation_file, hint=hint)
        missing = [key for key in OF_AN_EVALUATION if key not in values]
        if missing:
            raise ModelError(f"`{self.evaluation_file}` is damaged: it has no {missing[0]!r}", hint=hint)
        return values

    def gallery(self) -> list[dict[str, Any]]:
        """The examples of `gallery.json`; none for a run that was not evaluated."""
        if not self.gallery_file.exists():
            return []
        return list(
            read_own_json(self.gallery_file, hint=f"`danlu evaluate {self}` writes it anew").get("examples", [])
        )

    def explanations(self) -> dict[str, Any] | None:
        """`explanations.json`: what explains the examples of the gallery; None where it was not asked for."""
        hint = f"`danlu explain {self} --gallery` writes it anew"
        return read_own_json(self.explanations_file, hint=hint) if self.explanations_file.exists() else None

    def history(self) -> list[dict[str, Any]]:
        """One row an epoch; an unfinished last line is left out."""
        return _read_lines(self.history_file)

    def steps(self) -> list[dict[str, Any]]:
        """One row a step: step, epoch, loss, learning rate, where clipped the gradient's norm. Written with each
        checkpoint; a loss that is not a number is None.
        """
        return _read_lines(self.steps_file)

    def watched(self) -> list[dict[str, Any]]:
        """One row for each step that was looked at from inside, with a row for each layer. Written as `steps`."""
        return _read_lines(self.watched_file)

    def first_step(self) -> dict[str, Any] | None:
        """`first_step.json`: the one-step test; None for a run without one."""
        return read_own_json(self.first_step_file) if self.first_step_file.exists() else None

    def findings(self) -> dict[str, Any] | None:
        """`findings.json`; None for a run that was not diagnosed."""
        hint = f"`danlu diagnose {self}` writes it anew"
        return read_own_json(self.findings_file, hint=hint) if self.findings_file.exists() else None

    def add_history(self, row: dict[str, Any]) -> None:
        append_text(self.history_file, json.dumps(row) + "\n", durable=False)

    def add_steps(self, rows: Sequence[dict[str, Any]]) -> None:
        append_text(self.steps_file, _lines(rows))

    def add_watched(self, rows: Sequence[dict[str, Any]]) -> None:
        append_text(self.watched_file, _lines(rows), durable=False)

    def keep_first_step(self, facts: dict[str, Any]) -> None:
        write_json(self.first_step_file, {"format": FORMAT, **facts})

    def keep(self, history: Sequence[dict[str, Any]], steps: int) -> int:
        """Go back to `history` and the first `steps` steps, as a checkpoint has them; how many step rows are gone."""
        write_text(self.history_file, _lines(history))
        rows = [row for row in self.steps() if row["step"] < steps]
        write_text(self.steps_file, _lines(rows))
        if self.watched_file.exists():
            write_text(self.watched_file, _lines([row for row in self.watched() if row["step"] < steps]))
        return steps - len(rows)

    @contextmanager
    def hold(self, patience_seconds: float = 0.5) -> Iterator[None]:
        """Be the only process that trains or exports in this folder. Raises `MachineError` when another one does.

        Who only looks whether it is held, as `state` does, holds it for a moment: hence the patience.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.lock_file, timeout=patience_seconds)
        try:
            lock.acquire()
        except Timeout:
            process = self.status().get("process", "unknown")
            raise MachineError(
                f"the run `{self}` is in use by process {process}", hint="wait for it, or stop it first"
            ) from None
        except OSError as error:
            raise MachineError(
                f"cannot write in `{self}`: {error.strerror or error}",
                hint="make the folder writable, or copy the run to another place",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def state(self) -> str:
        """The state `run.json` tells, or `crashed` when it tells `running` and no process holds the run.

        A `prepared` run, which is not held yet, has crashed when the process that prepared it is gone.
        """
        status = self.status()
        told = str(status.get("state", "?"))
        if told not in ("running", "prepared") or (told == "prepared" and is_alive(status.get("process"))):
            return told
        try:
            with self.hold(patience_seconds=0):
                return "crashed"
        except MachineError:
            return told


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
        raise _taken(run)
    try:
        run.folder.mkdir(parents=True)
    except FileExistsError:
        raise _taken(run) from None  # by a process that started in the same moment
    except OSError as error:
        raise MachineError(
            f"cannot make the run folder `{run.folder}`: {error.strerror}",
            hint="choose another place with `DANLU_RUNS=…`",
        ) from error
    point_latest(run)
    return run


def _taken(run: Run) -> ConfigError:
    """That the name is taken, with the line that goes on with the run where that is possible."""
    try:
        state = run.state()
    except ModelError:
        state = "damaged"
    told = f"the run `{run}` exists already (state: {state})"
    if state in ("crashed", "interrupted", "failed"):
        return ConfigError(told, hint=f"go on with it: {run.way_to_go_on()}; or choose another name")
    if state in ("running", "prepared"):
        return ConfigError(told, hint="choose another name, or wait for it")
    return ConfigError(told, hint="choose another name, or remove the folder")


def point_latest(run: Run) -> None:
    """Make `runs/latest` a link to this run, in one step."""
    point_link(run.folder.parent / LATEST, run.name)


def find_run(place: str | Path) -> Run:
    """The run at a path, or of that name below `runs_folder()`. Raises `ConfigError` with the nearest names."""
    for folder in (Path(place), runs_folder() / Path(place)):
        run = Run(folder.resolve() if os.path.islink(folder) else folder)
        if _is_there(run):
            return run
    if is_bundle(place):
        raise ConfigError(f"`{place}` is a bundle, not a run", hint="`danlu predict` takes it, and `danlu.load`")
    if os.path.exists(Path(place) / EXPORTED):
        raise ConfigError(f"`{place}` holds files for another runtime", hint="its `README.md` tells how to use them")
    if os.path.exists(place):
        raise ConfigError(
            f"`{place}` is no run and no bundle: it has neither `run.json` nor `{MARK}`",
            hint="`danlu runs` shows all runs",
        )
    names = [run.name for run in list_runs()]
    told = nearest_names(Path(place).name, names) if names else f"there is none below `{runs_folder()}` yet"
    raise ConfigError(f"no run `{place}`; {told}", hint="`danlu runs` shows all runs")


def _is_there(run: Run) -> bool:
    """Also where the status is gone; unlike `Path.is_file`, also for a name that is too long."""
    return any(os.path.isfile(path) for path in (run.status_file, run.config_file))


def list_runs() -> list[Run]:
    """All runs, oldest first; one whose `run.json` is gone too, as the first."""
    home = runs_folder()
    if not home.is_dir():
        return []
    runs = [run for run in map(Run, home.iterdir()) if not run.folder.is_symlink() and _is_there(run)]
    return sorted(runs, key=lambda run: (run.started(), run.name))


def inspections_folder() -> Path:
    """Where `danlu inspect` writes, a folder for each data set."""
    return runs_folder() / "inspections"


def probes_folder() -> Path:
    """Where `danlu probe` writes, a folder for each data set."""
    return runs_folder() / "probes"


def comparisons_folder() -> Path:
    """Where `danlu compare` writes its pages."""
    return runs_folder() / "comparisons"


def studies_folder() -> Path:
    """Where `danlu tune` keeps its studies; `base/studies.py` knows what is in one."""
    return runs_folder() / "studies"


def splits_folder() -> Path:
    """Where the split of each data set is kept for the next run on it."""
    return runs_folder() / ".splits"


def read_own_json(path: Path, *, hint: str | None = None) -> dict[str, Any]:
    """A JSON file of danlu's, without its seal. Raises `ModelError` when it is damaged, changed or newer."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = int(values["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"`{path}` is damaged or missing: {error}", hint=hint) from error
    if found > FORMAT:
        raise ModelError(f"`{path}` has format {found}, this danlu reads up to {FORMAT}", hint="install a newer danlu")
    seal = values.pop(SEAL, None)
    if seal is not None and seal != digest_of(values):
        raise ModelError(f"`{path}` is not as danlu wrote it: it was changed or is damaged", hint=hint)
    return dict(values)


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, up to the first that is torn or no object."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows
