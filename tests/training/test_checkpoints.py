"""What a reader of a checkpoint folder sees, whatever happened to it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from crash_disk import RecordedOs, crash_states
from danlu.base import files
from danlu.base.errors import MachineError, ModelError
from danlu.training import checkpoints as module
from danlu.training.checkpoints import Cadence, Checkpoint, Checkpoints, load_checkpoint


def save(keeper: Checkpoints, version: int, *, best: bool = True) -> None:
    if best:
        keeper.keep_best({"w": torch.full((3,), float(version))}, {"epoch": version})
    keeper.save(Checkpoint({"model.w": torch.full((300,), float(version))}, {"epoch": version, "step": version}))


def saved(folder: Path, versions: int = 1) -> Checkpoints:
    keeper = Checkpoints(folder)
    for version in range(1, versions + 1):
        save(keeper, version)
    return keeper


def loaded_version(folder: Path) -> int:
    """The version a new process goes on from, 0 for none; its tensors and its best have to belong to it."""
    found = Checkpoints(folder).load_latest()
    if found is None:
        return 0
    checkpoint, best = found
    version = int(checkpoint.values["step"])
    assert checkpoint.tensors["model.w"].tolist() == [version] * 300
    assert best is None or best.tensors["w"].tolist() == [best.values["epoch"]] * 3
    return version


def test_two_saves_and_the_best_are_kept(tmp_path: Path) -> None:
    keeper = saved(tmp_path, versions=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "000003.safetensors",
        "000004.safetensors",
        "best-000003.safetensors",
        "best-000004.safetensors",
        "best.json",
        "latest.json",
        "previous.json",
    ]
    save(keeper, 5, best=False)
    save(keeper, 6, best=False)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        "000005.safetensors",
        "000006.safetensors",
        "best-000004.safetensors",
    ]
    assert loaded_version(tmp_path) == 6
    assert load_checkpoint(tmp_path, "previous").values["step"] == 5
    assert load_checkpoint(tmp_path, "best").tensors["w"].tolist() == [4, 4, 4]


def test_saving_goes_on_after_a_restart(tmp_path: Path) -> None:
    saved(tmp_path, versions=3)
    keeper = Checkpoints(tmp_path)
    keeper.load_latest()
    save(keeper, 4, best=False)
    assert loaded_version(tmp_path) == 4
    assert load_checkpoint(tmp_path, "previous").values["step"] == 3
    assert load_checkpoint(tmp_path, "best").values["epoch"] == 3


def test_no_checkpoint_yet_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "new").load_latest() is None


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    keeper = Checkpoints(tmp_path)
    keeper.save(Checkpoint({"a": shared, "b": shared}, {"epoch": 0, "step": 0}))
    assert load_checkpoint(tmp_path, "latest").tensors["b"].tolist() == [0, 1, 2, 3]


# A save is never half there.


def versions_after_crashes(folder: Path, look: Path, disk: RecordedOs, ends: list[int]) -> list[tuple[int, int, int]]:
    """(operations done, saves finished by then, version found; −1 for none) of every different crash."""
    seen: set[tuple[int, tuple[tuple[str, bytes], ...]]] = set()
    found = []
    for prefix in range(len(disk.operations) + 1):
        done = sum(prefix >= end for end in ends)
        for state in crash_states(disk.operations[:prefix], folder):
            key = (done, tuple(sorted(state.items())))
            if key in seen:
                continue
            seen.add(key)
            for old in look.glob("*") if look.exists() else ():
                old.unlink()
            look.mkdir(exist_ok=True)
            for name, data in state.items():
                (look / name).write_bytes(data)
            try:
                found.append((prefix, done, loaded_version(look)))
            except ModelError:
                found.append((prefix, done, -1))
    return found


def record_saves(folder: Path, disk: RecordedOs, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of operations done after each of four saves."""
    ends: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", disk)
        keeper = Checkpoints(folder)
        for version in (1, 2, 3, 4):
            save(keeper, version, best=version != 3)
            ends.append(len(disk.operations))
    return ends


@pytest.mark.parametrize("short_writes", [False, True])
def test_every_prefix_of_the_operations_loads_this_version_or_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_writes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = RecordedOs(short_writes=short_writes)
    ends = record_saves(tmp_path / "c", disk, monkeypatch)
    found = versions_after_crashes(tmp_path / "c", tmp_path / "look", disk, ends)
    assert [crash for crash in found if crash[2] not in (crash[1], crash[1] + 1)] == []
    assert len(found) > 100
    with capsys.disabled():
        print(f"\n{len(disk.operations)} operations, {len(found)} different crashes: all load")


@pytest.mark.parametrize("left_out", ["sync", "replace"])
def test_crashes_are_found_when_the_protocol_leaves_a_step_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    """The test above can fail: without fsync, or writing in place, some crash loses both versions."""
    if left_out == "sync":
        monkeypatch.setattr(files._Handle, "sync", lambda self: None)
    else:

        def in_place(path: Path, write: Any) -> None:
            with files._Handle(path, files._NEW_FILE) as file:
                write(file)
                file.sync()
            files.sync_folder(path.parent)

        monkeypatch.setattr(files, "write_atomically", in_place)
        monkeypatch.setattr(module, "write_atomically", in_place)
    disk = RecordedOs()
    ends = record_saves(tmp_path / "c", disk, monkeypatch)
    found = versions_after_crashes(tmp_path / "c", tmp_path / "look", disk, ends)
    assert [crash for crash in found if crash[2] not in (crash[1], crash[1] + 1)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"])
def test_every_operation_that_fails_keeps_a_version_and_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    counter = RecordedOs()
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", counter)
        saved(tmp_path / "whole", versions=3)
        total = len(counter.operations)
    for place in range(total):
        folder = tmp_path / f"fails-at-{place}"
        disk = RecordedOs(fails_at=place, error=error)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", disk)
            keeper = Checkpoints(folder)
            version = 0
            with pytest.raises(MachineError, match=r"^cannot write `[^\n]+`: [^\n]+\n\nhint: ") as caught:
                for version in (1, 2, 3):
                    save(keeper, version)
        assert os.strerror(error) in caught.value.message
        assert loaded_version(folder) in (version - 1, version)
        after = Checkpoints(folder)
        after.load_latest()
        save(after, 9)  # once there is room again, saving works
        assert loaded_version(folder) == 9
    assert total > 40


def test_too_little_room_is_told_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_disk_bytes", lambda folder: 1000)
    with pytest.raises(MachineError, match=r"checkpoints in `.*` need .* GB, .* GB are free"):
        saved(tmp_path)
    assert list(tmp_path.iterdir()) == []


# Damage is found by hash, and the save before is used and said.

DAMAGES = ["flip first", "flip middle", "flip last", "cut", "empty", "longer", "lfs", "html", "gone", "folder", "pipe"]


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how in ("gone", "folder", "pipe"):
        path.unlink()
        if how == "folder":
            path.mkdir()
        if how == "pipe":
            os.mkfifo(path)
        return
    if how.startswith("flip"):
        data[{"first": 0, "middle": len(data) // 2, "last": -1}[how.split()[1]]] ^= 1
    made = {
        "cut": data[:-5],
        "empty": b"",
        "longer": data + b"\0",
        "lfs": b"version https://git-lfs.github.com/spec/v1",
    }
    path.write_bytes({**made, "html": b"<!DOCTYPE html>"}.get(how, data))


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["000003.safetensors", "best-000003.safetensors"])
def test_damaged_tensors_are_named_and_the_save_before_is_used(
    tmp_path: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, versions=3)
    damage(tmp_path / name, how)
    assert loaded_version(tmp_path) == 2
    assert f"{name}` is {'missing' if how in ('gone', 'folder', 'pipe') else 'damaged'}" in capsys.readouterr().err


@pytest.mark.parametrize("how", [how for how in DAMAGES if how not in ("gone", "folder", "pipe")])
def test_damaged_mark_is_named_and_the_save_before_is_used(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, versions=3)
    if how == "longer":
        (tmp_path / "latest.json").write_text((tmp_path / "latest.json").read_text() + "}")
    elif how == "flip last":  # the line feed at the end: still the same content
        return
    else:
        damage(tmp_path / "latest.json", how)
    assert loaded_version(tmp_path) == 2
    assert "latest.json` is damaged" in capsys.readouterr().err


def test_every_flipped_bit_of_a_mark_is_found(tmp_path: Path) -> None:
    saved(tmp_path, versions=2)
    data = (tmp_path / "latest.json").read_bytes()
    silent = []
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            (tmp_path / "latest.json").write_bytes(changed)
            try:
                content = module._read_mark(tmp_path, "latest")
            except ModelError:
                continue
            if content != module._read_mark(tmp_path, "latest") or content["values"] != {"epoch": 2, "step": 2}:
                silent.append((place, bit))
    assert silent == []


def test_swapped_files_are_never_taken_for_each_other(tmp_path: Path) -> None:
    saved(tmp_path, versions=3)
    one, two = tmp_path / "000002.safetensors", tmp_path / "000003.safetensors"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(ModelError, match="no undamaged checkpoint is left"):
        Checkpoints(tmp_path).load_latest()


def test_mark_under_another_name_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, versions=3)
    (tmp_path / "latest.json").write_bytes((tmp_path / "best.json").read_bytes())
    with pytest.raises(ModelError, match="not what was written"):
        load_checkpoint(tmp_path, "latest")


def test_nothing_undamaged_is_an_error_that_names_both(tmp_path: Path) -> None:
    saved(tmp_path, versions=3)
    for path in tmp_path.glob("0*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(ModelError, match=r"000003\.safetensors.*000002\.safetensors"):
        Checkpoints(tmp_path).load_latest()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", '{"format": 1}', '{"format": "x"}', '{"format": 2, "sha256": "", "content": 1}'],
)
def test_what_is_no_mark_is_named(tmp_path: Path, text: str) -> None:
    saved(tmp_path)
    (tmp_path / "latest.json").write_text(text)
    with pytest.raises(ModelError, match=r"checkpoint mark `.*latest\.json` is damaged"):
        load_checkpoint(tmp_path, "latest")


def test_newer_format_asks_for_a_newer_danlu(tmp_path: Path) -> None:
    saved(tmp_path)
    values = json.loads((tmp_path / "latest.json").read_text())
    (tmp_path / "latest.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(ModelError, match=r"format 99, this danlu reads up to 2[\s\S]*newer danlu"):
        load_checkpoint(tmp_path, "latest")


def _with_tensor_file(folder: Path, data: bytes) -> None:
    """A save whose marks and hashes are right, and whose tensors are `data`."""
    keeper = saved(folder)
    content = {**keeper.content["latest"], **keeper._write_tensors("000001.safetensors", data)}
    keeper._write_mark("latest", content)


def test_pickle_in_place_of_tensors_runs_no_code(tmp_path: Path) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(tmp_path / "marker"), "w")

    _with_tensor_file(tmp_path, pickle.dumps(Harm()))
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(tmp_path, "latest")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "header",
    [
        (2**62).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(100) + b"\0" * 4,
        (120).to_bytes(8, "little")
        + b"{%s}".replace(
            b"%s", b",".join(b'"%s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}' % n for n in (b"a", b"b"))
        ).ljust(120)
        + b"\0" * 4,
    ],
    ids=["huge", "short", "overlapping"],
)
def test_tensor_file_with_a_wrong_header_is_refused(tmp_path: Path, header: bytes) -> None:
    _with_tensor_file(tmp_path, header)
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(tmp_path, "latest")


def test_mark_cannot_name_a_file_outside_its_folder(tmp_path: Path) -> None:
    keeper = saved(tmp_path / "inside")
    outside = tmp_path / "000001.safetensors"
    outside.write_bytes((tmp_path / "inside" / "000001.safetensors").read_bytes())
    content = dict(keeper.content["latest"])
    content["files"] = {"../000001.safetensors": content["files"]["000001.safetensors"]}
    keeper._write_mark("latest", content)
    (tmp_path / "inside" / "000001.safetensors").unlink()
    with pytest.raises(ModelError, match=r"inside/000001\.safetensors` is missing"):
        load_checkpoint(tmp_path / "inside", "latest")


def test_saves_are_spaced_so_that_they_cost_half_of_the_promised_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    cadence = Cadence(cost_seconds=0.5, saved_at=100.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: 199.0)
    assert not cadence.is_due(1)
    monkeypatch.setattr(module.time, "perf_counter", lambda: 201.0)
    assert cadence.is_due(2)


def test_a_save_is_not_changed_by_what_the_loop_does_later(tmp_path: Path) -> None:
    losses = [1.0]
    keeper = Checkpoints(tmp_path)
    for step in (1, 2):
        keeper.save(Checkpoint({"w": torch.zeros(1)}, {"epoch": 0, "step": step, "losses": losses}))
        losses.append(2.0)
    assert load_checkpoint(tmp_path, "previous").values["losses"] == [1.0]
