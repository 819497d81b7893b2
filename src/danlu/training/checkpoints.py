"""`latest` and `best` of a run: safetensors for tensors, JSON for the rest, the JSON file being the commit mark.

A manifest names its files with size and SHA-256 and replaces its predecessor only after they are on disk; files no
manifest names any more are deleted after that. Nothing here is pickled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from danlu.base.errors import ModelError
from danlu.base.files import sha256_of_file, write_atomically, write_json

FORMAT = 1
SAVE_SHARE = 0.01


@dataclass(frozen=True)
class Checkpoint:
    """Everything the loop needs to go on after an epoch. `weights` are those that are evaluated and kept as best.

    `tensors`: model, optimizer and running mean under dotted names. `values`: numbers and texts.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]


class Checkpoints:
    """Saves at the end of epochs, as often as costs at most 1 % of the time, and always at the last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.cost_seconds = 0.0
        self.saved_at = -1e9
        self.unsaved_best: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def keep_best(self, weights: Mapping[str, Tensor], values: dict[str, Any]) -> None:
        """Remember the best weights; they reach the disk with the next save."""
        self.unsaved_best = ({name: value.detach().clone() for name, value in weights.items()}, values)

    def is_due(self) -> bool:
        return time.perf_counter() - self.saved_at >= self.cost_seconds / SAVE_SHARE

    def save(self, checkpoint: Checkpoint) -> None:
        """Write `latest`, and `best` when it changed since the last save."""
        started = time.perf_counter()
        name = f"epoch-{checkpoint.values['epoch']:05d}"
        if self.unsaved_best is not None:
            weights, values = self.unsaved_best
            self._commit("best", f"best-{values['epoch']:05d}.safetensors", weights, values)
            self.unsaved_best = None
        self._commit("latest", f"{name}.safetensors", checkpoint.tensors, checkpoint.values)
        self._delete_unnamed()
        self.saved_at = time.perf_counter()
        self.cost_seconds = self.saved_at - started

    def load_latest(self) -> Checkpoint | None:
        """The last complete checkpoint, or None before the first."""
        if not (self.folder / "latest.json").exists():
            return None
        return load_checkpoint(self.folder, "latest")

    def _commit(self, mark: str, file_name: str, tensors: Mapping[str, Tensor], values: dict[str, Any]) -> None:
        data = tensors_to_bytes({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        path = self.folder / file_name
        write_atomically(path, lambda file: file.write(data))
        files = {file_name: {"size_bytes": len(data), "sha256": sha256_of_file(path)}}
        write_json(self.folder / f"{mark}.json", {"format": FORMAT, "files": files, **values})

    def _delete_unnamed(self) -> None:
        named = {name for mark in self.folder.glob("*.json") for name in json.loads(mark.read_text())["files"]}
        for path in self.folder.glob("*.safetensors"):
            if path.name not in named:
                path.unlink(missing_ok=True)


def load_checkpoint(folder: Path, mark: str) -> Checkpoint:
    """`latest` or `best` of a checkpoint folder. Raises `ModelError` for anything missing, damaged or newer."""
    manifest = folder / f"{mark}.json"
    try:
        values = json.loads(manifest.read_text(encoding="utf-8"))
        files = values["files"]
        found_format = int(values["format"])
    except FileNotFoundError:
        raise ModelError(f"no `{manifest}`: nothing has been saved in this run yet") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the checkpoint manifest `{manifest}` is damaged: {error}") from error
    if found_format > FORMAT:
        raise ModelError(
            f"`{manifest}` has format {found_format}, this danlu reads up to {FORMAT}", hint="install a newer danlu"
        )
    tensors: dict[str, Tensor] = {}
    for name, expected in files.items():
        path = folder / Path(name).name
        try:
            data = path.read_bytes()
            if len(data) != expected["size_bytes"] or sha256_of_file(path) != expected["sha256"]:
                raise ModelError(
                    f"`{path}` is damaged: {len(data):,} bytes of {expected['size_bytes']:,}, or another hash"
                )
            tensors.update(tensors_from_bytes(data))
        except FileNotFoundError:
            raise ModelError(f"`{path}` is missing; `{manifest.name}` names it") from None
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ModelError(f"`{path}` cannot be read: {error}") from error
    return Checkpoint(tensors, {key: value for key, value in values.items() if key not in ("files", "format")})


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
