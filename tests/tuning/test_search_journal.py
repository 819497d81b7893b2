"""The journal of a search: what a kill leaves of it, and many writers at once."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import optuna
import pytest
from fakes import FakeTrainings, search_in

from danlu.base.errors import MachineError, ModelError
from danlu.tuning.journal import JournalFile
from danlu.tuning.search import Budget


def records(path: Path) -> list[dict]:
    return list(JournalFile(path).read_logs(0))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.log"
    JournalFile(path).append_logs([{"op_code": 0, "n": 0}])
    JournalFile(path).append_logs([{"op_code": 6, "n": 1}, {"op_code": 5, "n": 2}])
    return path


def test_records_come_back_in_their_order(journal: Path) -> None:
    assert [record["n"] for record in records(journal)] == [0, 1, 2]


def test_reader_goes_on_where_it_was(journal: Path) -> None:
    reader = JournalFile(journal)
    assert len(list(reader.read_logs(0))) == 3
    JournalFile(journal).append_logs([{"op_code": 5, "n": 3}])
    assert [record["n"] for record in reader.read_logs(3)] == [3]
    assert [record["n"] for record in reader.read_logs(1)] == [1, 2, 3]


def test_every_cut_of_the_last_record_loses_that_record_alone(journal: Path) -> None:
    whole = journal.read_bytes()
    last = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for size in range(last, len(whole)):
        journal.write_bytes(whole[:size])
        assert [record["n"] for record in records(journal)] == [0, 1], size
        assert journal.read_bytes() == whole[:last]


def test_writer_mends_a_torn_line_before_it_adds_to_it(journal: Path) -> None:
    writer = JournalFile(journal)
    with open(journal, "ab") as file:
        file.write(b'{"op_code": 6, "va')
    writer.append_logs([{"op_code": 5, "n": 3}])
    assert [record["n"] for record in records(journal)] == [0, 1, 2, 3]


def test_mending_is_told(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(journal, "ab") as file:
        file.write(b'{"op')
    JournalFile(journal)
    assert "ended in the midst of a line, as a kill leaves it: cut its 4 bytes" in capsys.readouterr().err


def test_torn_line_longer_than_the_tail_that_is_looked_at_is_cut(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danlu.tuning.journal.TAIL_BYTES", 16)
    with open(journal, "ab") as file:
        file.write(b"x" * 100)
    assert len(records(journal)) == 3


def test_record_that_cannot_be_written_whole_leaves_nothing(journal: Path) -> None:
    before = journal.read_bytes()
    writer = JournalFile(journal)

    def fails(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(MachineError, match="No space left"):
            writer.append_logs([{"op_code": 6, "n": 3}])
    assert journal.read_bytes() == before


def test_line_in_the_midst_that_is_no_record_is_refused(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b'{"op_code":6,"val{"op_code":5}\n' + lines[2])
    with pytest.raises(ModelError, match="line 2 is no record"):
        records(journal)


def _write_many(path: Path, number: int) -> None:
    writer = JournalFile(path)
    for place in range(50):
        writer.append_logs([{"op_code": 5, "writer": number, "place": place}])


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, number)) for number in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(30)
    found = {(record["writer"], record["place"]) for record in map(json.loads, path.read_text().splitlines())}
    assert len(found) == 150


def test_cut_anywhere_in_the_last_record_loses_no_finished_trial(tmp_path: Path) -> None:
    search_in(tmp_path).run(Budget(trials=6))
    path = tmp_path / "journal.log"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    told = next(place for place in reversed(range(len(lines))) if b'"op_code":6' in lines[place])
    start = sum(map(len, lines[:told]))
    ended = [one.number for one in search_in(tmp_path).tried()]
    for size in range(start, start + len(lines[told]), 7):
        path.write_bytes(whole[:size])
        assert [one.number for one in search_in(tmp_path).tried()] == ended[:-1], size


def test_search_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    search_in(tmp_path).run(Budget(trials=4))
    with open(tmp_path / "journal.log", "ab") as file:
        file.write(b'{"op_code":6,"worker_id":"x","trial_id":3,"st')
    again = search_in(tmp_path)
    again.run(Budget(trials=7))
    assert [one.number for one in again.tried()] == list(range(7))


def test_optuna_reads_the_journal(tmp_path: Path) -> None:
    search_in(tmp_path, FakeTrainings()).run(Budget(trials=3))
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    study = optuna.load_study(study_name="a", storage=optuna.storages.JournalStorage(backend))
    assert len(study.trials) == 3
