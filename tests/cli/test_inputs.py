"""What commands take as inputs: encodings, files that are no texts, names that are no files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from danlu.base.errors import ConfigError, DataError
from danlu.cli.inputs import image_inputs, share_of, text_inputs


def pipe(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_text_files_are_read_in_the_encodings_tables_are(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "评论.txt"
    path.write_bytes("很快，好吃\n太慢".encode(encoding))
    assert list(text_inputs((str(path),))) == ["很快，好吃", "太慢"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_standard_input_is_read_in_utf8_and_gb18030(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    pipe(monkeypatch, "很快，好吃\r\n\r\n太慢".encode(encoding))
    assert list(text_inputs(("-",))) == ["很快，好吃", "", "太慢"]
    assert ("read as GB18030 from line 1" in capsys.readouterr().err) == (encoding == "gb18030")


@pytest.mark.parametrize(
    ("raw", "told"), [(b"ok\n\xff\xff", "neither UTF-8 nor GB18030 at line 2"), (b"\x89P\0", "NUL")]
)
def test_standard_input_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, raw: bytes, told: str) -> None:
    pipe(monkeypatch, raw)
    with pytest.raises(DataError, match=told):
        list(text_inputs(("-",)))


def test_empty_text_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.txt` is empty"):
        list(text_inputs((str(tmp_path / "a.txt"),)))


def test_files_and_folders_are_not_taken_for_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    for place, told in ((tmp_path / "a.jpg", "a file of another kind"), (tmp_path, "a folder")):
        with pytest.raises(ConfigError, match=told):
            list(text_inputs((str(place),)))
    with pytest.raises(DataError, match=r"no file `不在\.txt`"):
        list(text_inputs(("不在.txt",)))
    assert list(text_inputs(("see notes.txt", "好吃" * 200, "a\0b"))) == ["see notes.txt", "好吃" * 200, "a\0b"]


def test_blank_lines_are_no_image_files(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"a.jpg\n\nb.jpg\n")
    assert list(image_inputs(("-",))) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("text", ["2%", "0.02", "２％", " 2% ", "０.０２"])
def test_share_is_read_as_people_type_it(text: str) -> None:
    assert share_of(text, "--max-drop") == pytest.approx(0.02)
