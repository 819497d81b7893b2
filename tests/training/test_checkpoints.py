"""What a reader of a checkpoint folder sees, whatever happened to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from danlu.base.errors import MachineError, ModelError
from danlu.training import checkpoints as module
from danlu.training.checkpoints import Checkpoint, Checkpoints, load_checkpoint


def saved(folder: Path, epochs: int = 1) -> Checkpoints:
    keeper = Checkpoints(folder)
    for epoch in range(epochs):
        keeper.keep_best({"w": torch.full((3,), float(epoch))}, {"epoch": epoch})
        keeper.save(Checkpoint({"model.w": torch.full((3,), float(epoch))}, {"epoch": epoch}))
    return keeper


def test_only_the_newest_files_stay(tmp_path: Path) -> None:
    saved(tmp_path, epochs=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best-00003.safetensors",
        "best.json",
        "epoch-00003.safetensors",
        "latest.json",
    ]
    assert load_checkpoint(tmp_path, "latest").tensors["model.w"].tolist() == [3, 3, 3]


def test_no_checkpoint_yet_is_none() -> None:
    assert Checkpoints(Path("empty")).load_latest() is None


def test_failed_write_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = saved(tmp_path)

    def full(*_: object) -> None:
        raise MachineError("cannot write: No space left on device")

    for name in ("write_atomically", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            with pytest.raises(MachineError):
                keeper.save(Checkpoint({"model.w": torch.zeros(3) + 7}, {"epoch": 7}))
        assert load_checkpoint(tmp_path, "latest").tensors["model.w"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "lfs", "html", "gone", "other"])
def test_damaged_weights_are_named_never_loaded(tmp_path: Path, damage: str) -> None:
    saved(tmp_path)
    path = tmp_path / "epoch-00000.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    elif damage == "cut":
        data = data[:-5]
    elif damage == "empty":
        data = bytearray()
    elif damage == "lfs":
        data = bytearray(b"version https://git-lfs.github.com/spec/v1\n")
    elif damage == "html":
        data = bytearray(b"<!DOCTYPE html>")
    elif damage == "other":
        data = bytearray((tmp_path / "best-00000.safetensors").read_bytes())
    path.write_bytes(data)
    if damage == "gone":
        path.unlink()
    with pytest.raises(ModelError, match=r"epoch-00000\.safetensors` (is damaged|is missing)"):
        load_checkpoint(tmp_path, "latest")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": "x", "files": {}}'])
def test_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    saved(tmp_path)
    (tmp_path / "latest.json").write_text(text)
    with pytest.raises(ModelError, match=r"manifest `.*latest\.json` is damaged"):
        load_checkpoint(tmp_path, "latest")


def test_newer_format_asks_for_a_newer_danlu(tmp_path: Path) -> None:
    saved(tmp_path)
    values = json.loads((tmp_path / "latest.json").read_text())
    (tmp_path / "latest.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(ModelError, match=r"format 99, this danlu reads up to 1[\s\S]*newer danlu"):
        load_checkpoint(tmp_path, "latest")


def test_pickle_in_place_of_weights_runs_no_code(tmp_path: Path) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "marker"), "w")

    saved(tmp_path)
    data = pickle.dumps(Harm())
    path = tmp_path / "epoch-00000.safetensors"
    path.write_bytes(data)
    values = json.loads((tmp_path / "latest.json").read_text())
    from danlu.base.files import sha256_of_file

    values["files"] = {path.name: {"size_bytes": len(data), "sha256": sha256_of_file(path)}}
    (tmp_path / "latest.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(tmp_path, "latest")
    assert not (tmp_path / "marker").exists()


def test_saves_are_spaced_so_that_they_cost_one_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = saved(tmp_path)
    keeper.cost_seconds, keeper.saved_at = 0.5, 100.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: 149.0)
    assert not keeper.is_due()
    monkeypatch.setattr(module.time, "perf_counter", lambda: 151.0)
    assert keeper.is_due()
