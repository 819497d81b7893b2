"""Writes that survive a crash: a reader sees the old file or the new one, and nothing else stays behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import IO

import pytest

from danlu.base import files
from danlu.base.errors import MachineError
from danlu.base.files import make_folder, sha256_of_file, write_atomically, write_json, write_text


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def write_half(file: IO[bytes]) -> None:
    file.write(b"half of the ne")
    full_disk()


def test_new_content_is_in_place_and_no_temporary_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "笔记.txt"
    write_text(path, "旧")
    write_text(path, "新")
    assert path.read_text(encoding="utf-8") == "新"
    assert [p.name for p in tmp_path.iterdir() if p.name != ".cache"] == ["笔记.txt"]


def test_error_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(MachineError) as caught:
        write_atomically(path, write_half)
    assert caught.value.message == f"cannot write `{path}`: No space left on device"
    assert "free some space" in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_error_at_every_step_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(files.os, step, full_disk)
    with pytest.raises(MachineError, match="cannot write"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_bug_in_the_writer_leaves_the_old_file_and_is_not_hidden(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda file: file.write(bytes(1 // 0)))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_vanished_folder_is_a_machine_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"cannot write `.*`: No such file or directory"):
        write_text(tmp_path / "gone" / "a.txt", "x")


def test_everything_is_on_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_text(tmp_path / "a.txt", "x")
    assert done == ["fsync", "replace", "fsync"]


def test_json_is_readable_and_keeps_chinese_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"类别": ["红", 1.5, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"类别": ["红", 1.5, None]}
    assert "类别" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"abc", b"x" * ((1 << 20) + 1)], ids=len)
def test_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()


def test_lists_of_numbers_stand_on_one_line_and_all_values_come_back(tmp_path: Path) -> None:
    value = {"a": [1, -2.5e-9, None, True], "[\n  1\n]": ["[\n1\n]", "，"], "rows": [[1, 2], [], [[3]]], "empty": {}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert '"a": [1, -2.5e-09, null, true],' in text and "    [1, 2]," in text


def test_table_of_a_thousand_classes_is_a_file_of_a_few_megabytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"confusion": [[0] * 1000] * 1000})
    assert (tmp_path / "a.json").stat().st_size < 3.1e6


def test_strings_in_lists_keep_their_blanks(tmp_path: Path) -> None:
    value = [["a  b", "c\td"], [1, "x   y"], [{"a": [1, 2]}, 3], [{}, 4]]
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def test_folder_is_made_with_those_above_it_and_may_be_there(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    write_text(tmp_path / "file", "x")
    with pytest.raises(MachineError, match=r"cannot make the folder `.*file.x`"):
        make_folder(tmp_path / "file" / "x")
