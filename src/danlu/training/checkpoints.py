"""`latest`, `previous` and `best` of a run: safetensors for tensors, JSON for the rest, the JSON file being the mark.

A save writes its tensors, then makes the mark of the save before `previous.json`, then replaces `latest.json`: that
replacement is the commit. Files that no mark names any more are deleted after it. A mark holds the size and SHA-256
of every file it names and of its own content, so that damage is found, named, and the save before is used. Nothing
here is pickled.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from danlu.base import log
from danlu.base.errors import MachineError, ModelError
from danlu.base.files import digest_of, make_folder, remove_file, write_atomically, write_json
from danlu.base.machine import free_disk_bytes

FORMAT = 2
SAVE_SHARE = 0.005  # half of the 1 % that is promised: the next save may cost more than the last


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` under dotted names, and `values`: numbers and texts."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass
class Cadence:
    """When to save: every so many steps, or as often as costs at most 1 % of the time.

    >>> cadence = Cadence(every_steps=10)
    >>> [step for step in range(1, 31) if cadence.is_due(step)]
    [10, 20, 30]
    """

    every_steps: int | None = None
    cost_seconds: float = 0.0
    saved_at: float = field(default_factory=time.perf_counter)

    def is_due(self, step: int) -> bool:
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return time.perf_counter() - self.saved_at >= self.cost_seconds / SAVE_SHARE

    def saved(self, started: float) -> None:
        self.saved_at = time.perf_counter()
        self.cost_seconds = self.saved_at - started


class Checkpoints:
    """The checkpoints of one training. One process at a time writes here; the caller holds the run's lock."""

    def __init__(self, folder: Path, every_steps: int | None = None) -> None:
        self.folder = folder
        self.cadence = Cadence(every_steps)
        self.unsaved_best: Checkpoint | None = None
        self.content: dict[str, dict[str, Any]] = {}  # what each mark says
        make_folder(folder)

    def keep_best(self, weights: Mapping[str, Tensor], values: dict[str, Any]) -> None:
        """Remember the best weights; they reach the disk with the next save."""
        self.unsaved_best = Checkpoint({name: value.detach().clone() for name, value in weights.items()}, values)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write `latest`, and `best` when it changed. A write that fails leaves the save before as it was."""
        started = time.perf_counter()
        before = self.content.get("latest")
        number = before["number"] + 1 if before else 1
        data = _to_bytes(checkpoint.tensors)
        if before is None:
            self._require_space(len(data))
        best = before["best"] if before else None
        if self.unsaved_best is not None:
            best = self._write_tensors(f"best-{number:06d}.safetensors", _to_bytes(self.unsaved_best.tensors))
            best["values"] = self.unsaved_best.values
        latest = self._write_tensors(f"{number:06d}.safetensors", data)
        latest.update(number=number, values=checkpoint.values, best=best)
        if before is not None:
            self._write_mark("previous", before)
        self._write_mark("latest", latest)
        self.unsaved_best = None
        if best is not None and best != self.content.get("best"):
            self._write_mark("best", best)
        self._delete_unnamed()
        self.cadence.saved(started)

    def load_latest(self) -> tuple[Checkpoint, Checkpoint | None] | None:
        """The last complete save and the best weights it knows, or None before the first save.

        A damaged one is named, and the save before it is used. Raises `ModelError` when none is left.
        """
        damage: list[str] = []
        for mark in ("latest", "previous"):
            if not (self.folder / f"{mark}.json").exists():
                continue
            try:
                content = _read_mark(self.folder, mark)
                found = _checkpoint_of(self.folder, content)
                best = _checkpoint_of(self.folder, content["best"]) if content["best"] else None
            except ModelError as error:
                log.warn(f"{error.message}; looking for the save before it")
                damage.append(error.message)
                continue
            self.content = {"latest": content}
            return found, best
        if damage:
            raise ModelError("no undamaged checkpoint is left: " + "; ".join(damage), hint="start a new run")
        return None

    def _require_space(self, size_bytes: int) -> None:
        """Before the first step: room for the save, the one before, the one being written and the best."""
        free = free_disk_bytes(self.folder)
        if free < 4 * size_bytes:
            raise MachineError(
                f"checkpoints in `{self.folder}` need {4 * size_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free",
                hint="free some space, or choose another folder with `DANLU_RUNS=…`",
            )

    def _write_tensors(self, name: str, data: bytes) -> dict[str, Any]:
        write_atomically(self.folder / name, lambda file: file.write(data))
        return {"files": {name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}}

    def _write_mark(self, mark: str, content: dict[str, Any]) -> None:
        content = json.loads(json.dumps({**content, "mark": mark}))  # its own copy: the loop goes on changing lists
        write_json(self.folder / f"{mark}.json", {"format": FORMAT, "sha256": digest_of(content), "content": content})
        self.content[mark] = {key: value for key, value in content.items() if key != "mark"}

    def _delete_unnamed(self) -> None:
        named = {
            name
            for content in self.content.values()
            for part in (content, content.get("best") or {"files": {}})
            for name in part["files"]
        }
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in named:
                remove_file(path)


def load_checkpoint(folder: Path, mark: str) -> Checkpoint:
    """`latest`, `previous` or `best` of a checkpoint folder.

    Raises `ModelError` for anything missing, damaged or newer.
    """
    return _checkpoint_of(folder, _read_mark(folder, mark))


def _read_mark(folder: Path, mark: str) -> dict[str, Any]:
    """What a mark says, after its own hash has been checked."""
    path = folder / f"{mark}.json"
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        found_format, digest, content = int(written["format"]), written["sha256"], written["content"]
    except FileNotFoundError:
        raise ModelError(f"no `{path}`: nothing has been saved in this run yet") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"the checkpoint mark `{path}` is damaged: {error}") from error
    if found_format > FORMAT:
        raise ModelError(
            f"`{path}` has format {found_format}, this danlu reads up to {FORMAT}", hint="install a newer danlu"
        )
    if not isinstance(content, dict) or digest != digest_of(content) or content.get("mark") != mark:
        raise ModelError(f"the checkpoint mark `{path}` is damaged: its content is not what was written")
    return {key: value for key, value in content.items() if key != "mark"}


def _checkpoint_of(folder: Path, content: Mapping[str, Any]) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for name, expected in content["files"].items():
        path = folder / Path(name).name
        try:
            if not path.is_file():  # a pipe would wait for ever
                raise FileNotFoundError
            data = path.read_bytes()
            if len(data) != expected["size_bytes"] or hashlib.sha256(data).hexdigest() != expected["sha256"]:
                raise ModelError(
                    f"`{path}` is damaged: {len(data):,} bytes of {expected['size_bytes']:,}, or another hash"
                )
            tensors.update(tensors_from_bytes(data))
        except FileNotFoundError:
            raise ModelError(f"`{path}` is missing; its mark names it") from None
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ModelError(f"`{path}` cannot be read: {error}") from error
    return Checkpoint(tensors, dict(content["values"]))


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    written: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        written[name] = value.clone() if value.data_ptr() in places else value  # tied weights are written twice
        places.add(value.data_ptr())
    return tensors_to_bytes(written)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors and plain values."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    return tensors, {"groups": state["param_groups"], "plain": plain}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Undo `optimizer_tensors`.

    Each tensor takes the memory layout of its parameter: the fused kernels walk through both side by side, and a
    saved tensor, always contiguous, beside a channels-last parameter would be read in the wrong order without a word.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in values["plain"].items()}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            state.setdefault(int(index), {})[name] = value
    current = optimizer.state_dict()["param_groups"]
    groups = [
        {key: tuple(value) if isinstance(now.get(key), tuple) else value for key, value in saved.items()}
        for saved, now in zip(values["groups"], current, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
