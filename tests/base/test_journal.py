"""The journal: bounded, torn at most at its end, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from danlu.base import journal
from danlu.base.errors import ModelError
from danlu.base.journal import Journal, JournalWriter, can_be, journal_files, keep_reference
from journals import json_lines


def written(folder: Path, count: int, **options: int) -> JournalWriter:
    writer = JournalWriter(folder, **options)
    for number in range(count):
        writer.add(json_lines([{"number": number, "class": "好" * 20}]))
    writer.close()
    return writer


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    writer = written(tmp_path, 1000)
    found = Journal(tmp_path)
    assert [row["number"] for row in found.rows()] == list(range(1000))
    assert (writer.lost, found.torn) == (0, 0)


def test_several_writers_share_a_folder(tmp_path: Path) -> None:
    for _ in range(3):
        written(tmp_path, 10)
        time.sleep(0.002)
    assert len(list(Journal(tmp_path).rows())) == 30


def test_torn_last_line_is_passed_over_and_counted(tmp_path: Path) -> None:
    written(tmp_path, 10)
    (path,) = journal_files(tmp_path)
    whole = path.read_bytes()
    lines = whole.count(b"\n")
    for cut in range(len(whole) - 60, len(whole)):
        path.write_bytes(whole[:cut])
        found = Journal(tmp_path)
        rows = list(found.rows())
        assert len(rows) == whole[:cut].count(b"\n") >= lines - 1
        assert found.torn == 0


def test_line_that_is_no_json_is_counted(tmp_path: Path) -> None:
    written(tmp_path, 3)
    (path,) = journal_files(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'{"number":1', b'{"numb'))
    found = Journal(tmp_path)
    assert [row["number"] for row in found.rows()] == [0, 2] and found.torn == 1


def test_rows_go_on_where_they_were_left(tmp_path: Path) -> None:
    found = Journal(tmp_path)
    assert list(found.rows()) == []
    written(tmp_path, 5)
    (path,) = journal_files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert [row["number"] for row in found.rows()] == [0, 1, 2, 3]
    path.write_bytes(whole)
    assert [row["number"] for row in found.rows()] == [4]
    assert list(found.rows()) == [] and found.torn == 0


def test_rows_of_several_writers_come_by_time(tmp_path: Path) -> None:
    for first in (0, 1, 2):
        writer = JournalWriter(tmp_path, file_bytes=100)
        for number in range(first, 60, 3):
            writer.add(json_lines([{"time": number}]))
        writer.close()
        time.sleep(0.002)
    assert len(journal_files(tmp_path)) > 6
    assert [row["time"] for row in Journal(tmp_path).rows()] == list(range(60))


def test_references_lie_beside_the_answers(tmp_path: Path) -> None:
    keep_reference(tmp_path, "a@12", "12", {"x": 1})
    keep_reference(tmp_path, "b@34", "34", {"x": 2})
    assert Journal(tmp_path).references() == {"a@12": {"x": 1}, "b@34": {"x": 2}}
    (tmp_path / "references" / "34.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"34\.json"):
        Journal(tmp_path).references()


@pytest.mark.parametrize("version", ["../../out/12", "", "12/../../../out/12", "1\0", "x", "1" * 300], ids=repr)
def test_name_of_a_model_leads_to_no_file_but_a_reference(tmp_path: Path, version: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "12.json").write_text(json.dumps({"model": f"x@{version}", "reference": {}}), encoding="utf-8")
    keep_reference(tmp_path / "journal", "x@12", "12", {})
    assert Journal(tmp_path / "journal").reference(f"x@{version}") is None


def test_files_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    written(tmp_path, 20_000, most_bytes=400_000, file_bytes=100_000)
    sizes = [path.stat().st_size for path in journal_files(tmp_path)]
    assert sum(sizes) <= 400_000 and max(sizes) <= 101_000
    rows = [row["number"] for row in Journal(tmp_path).rows()]
    assert rows == list(range(rows[0], 20_000)) and rows[0] > 0


def test_small_journal_has_small_files(tmp_path: Path) -> None:
    written(tmp_path, 20_000, most_bytes=400_000)
    assert sum(path.stat().st_size for path in journal_files(tmp_path)) <= 401_000


def test_statistics_of_another_name_are_not_those_of_a_model(tmp_path: Path) -> None:
    keep_reference(tmp_path, "pets@12", "12", {})
    assert Journal(tmp_path).reference("pets@12") == {}
    assert Journal(tmp_path).reference("photos@12") is None


def test_rows_that_do_not_fit_the_queue_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_QUEUED", 10)
    monkeypatch.setattr(journal, "SECONDS", 30)
    writer = written(tmp_path, 25)
    assert writer.lost == 15
    assert len(list(Journal(tmp_path).rows())) == 10


def test_full_disk_loses_rows_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, is_full = os.write, True

    def write(file: int, data: bytes) -> int:
        if is_full:
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(journal.os, "write", write)
    writer = JournalWriter(tmp_path)
    writer.add(json_lines([{"number": 0}]))
    ends = time.monotonic() + 5
    while not writer.lost and time.monotonic() < ends:
        time.sleep(0.01)
    is_full = False
    writer.add(json_lines([{"number": 1}]))
    writer.close()
    assert (writer.lost, writer.problem) == (1, "No space left on device")
    assert [row["number"] for row in Journal(tmp_path).rows()] == [1]


def test_every_row_that_a_full_disk_takes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "write", write)
    writer = JournalWriter(tmp_path)
    writer.add(json_lines([{"number": number} for number in range(25)]))
    writer.close()
    assert writer.lost == 25


def test_row_after_one_that_was_written_in_part_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full for a moment."""
    real, calls = os.write, 0

    def write(file: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        return real(file, data[:5] if calls == 1 else data)

    writer = JournalWriter(tmp_path)
    monkeypatch.setattr(journal.os, "write", write)
    writer.add(json_lines([{"number": 0}]))
    ends = time.monotonic() + 5
    while not writer.lost and time.monotonic() < ends:
        time.sleep(0.01)
    writer.add(json_lines([{"number": 1}]))
    writer.close()
    assert [row["number"] for row in Journal(tmp_path).rows()] == [1]


def test_rows_after_their_file_was_removed_are_in_another(tmp_path: Path) -> None:
    writer, found = JournalWriter(tmp_path), Journal(tmp_path)
    writer.add(json_lines([{"number": 0}]))
    ends = time.monotonic() + 5
    while not list(found.rows()) and time.monotonic() < ends:
        time.sleep(0.01)
    (path,) = journal_files(tmp_path)
    path.unlink()
    writer.add(json_lines([{"number": 1}]))
    writer.close()
    assert [row["number"] for row in Journal(tmp_path).rows()] == [1]


def test_room_is_left_for_the_file_of_every_writer_that_lives(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"answers-{1:013d}-{os.getppid()}-{number:06d}.jsonl").write_bytes(b"{}\n" + b" " * 19_996 + b"\n")
    written(tmp_path, 1, most_bytes=100_000, file_bytes=20_000)
    assert sum(path.stat().st_size for path in journal_files(tmp_path)) < 100_000 - 20_000


def test_what_was_answered_is_not_for_everybody_to_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written(tmp_path, 1)
    finally:
        os.umask(before)
    (path,) = journal_files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("told", "is_believed"),
    [(1_577_000_000, False), (1_578_000_000, True), (2e9 + 86_000, True), (2e9 + 87_000, False)],
    ids=["before 2020", "in 2020", "less than a day ahead", "more than a day ahead"],
)
def test_time_that_no_clock_of_a_service_shows_is_not_believed(told: float, is_believed: bool) -> None:
    assert can_be(told, now=2e9) == is_believed


def test_what_is_no_journal_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("{}\n", encoding="utf-8")
    assert list(Journal(tmp_path).rows()) == []
    assert list(Journal(tmp_path / "nowhere").rows()) == []


def test_writers_that_end_early_are_bounded_too(tmp_path: Path) -> None:
    """A service whose workers are replaced again and again fills no file, and no disk."""
    for _ in range(40):
        written(tmp_path, 50, most_bytes=100_000, file_bytes=20_000)
        time.sleep(0.002)
    sizes = [path.stat().st_size for path in journal_files(tmp_path)]
    assert 60_000 < sum(sizes) <= 100_000


def test_old_file_that_cannot_be_removed_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    writer = written(tmp_path, 5000, most_bytes=100_000, file_bytes=20_000)
    assert writer.lost == 0
    assert [row["number"] for row in Journal(tmp_path).rows()] == list(range(5000))


def test_room_is_made_of_what_was_written_longest_ago_and_never_of_what_is_written_now(tmp_path: Path) -> None:
    """Whoever started first keeps its place in a full journal."""
    writers = []
    for _ in range(2):
        writers.append(JournalWriter(tmp_path, most_bytes=400_000, file_bytes=20_000))
        time.sleep(0.01)
    for number in range(8000):
        for which, writer in enumerate(writers):
            writer.add(json_lines([{"writer": which, "number": number, "class": "a" * 40}]))
        if number % 500 == 0:
            time.sleep(0.06)
    for writer in writers:
        writer.close()
    rows = list(Journal(tmp_path).rows())
    last = [max(row["number"] for row in rows if row["writer"] == which) for which in (0, 1)]
    assert last == [7999, 7999]
    counts = [sum(row["writer"] == which for row in rows) for which in (0, 1)]
    assert min(counts) > 0.5 * max(counts)
    assert sum(path.stat().st_size for path in journal_files(tmp_path)) <= 420_000


def test_line_of_any_length_and_a_folder_in_place_of_a_file_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LONGEST_LINE", 1000)
    written(tmp_path, 3)
    (path,) = journal_files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(b"x" * 5500 + b"\n" + whole)
    (tmp_path / "answers-0000000000001-1-000001.jsonl").mkdir()
    found = Journal(tmp_path)
    assert [row["number"] for row in found.rows()] == [0, 1, 2] and found.torn == 6


def many_writers(folder: Path, count: int, rows: int = 3, *, overlap: float = 0.0) -> Path:
    """A file each, as of workers that were started again and again, a second apart; `overlap`: seconds for which one
    goes on while the next is there."""
    folder.mkdir()
    for number in range(count):
        start = 1_750_000_000 + number
        times = [start + (1 + overlap) * place / rows for place in range(rows)]
        lines = b"".join(json_lines({"time": time, "number": number} for time in times))
        (folder / f"answers-{1000 * start:013d}-{number + 1}-000001.jsonl").write_bytes(lines)
    return folder


READ_WITH_FEW_FILES = """
import resource, sys, pathlib
from danlu.base.journal import Journal
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
times = [row["time"] for row in Journal(pathlib.Path(sys.argv[1])).rows()]
print(len(times), times == sorted(times))
"""


@pytest.mark.parametrize("overlap", [0.0, 1000.0], ids=["one after the other", "side by side"])
def test_two_thousand_writers_are_read_with_few_files_open(tmp_path: Path, overlap: float) -> None:
    folder = many_writers(tmp_path / "journal", 2000, overlap=overlap)
    command = [sys.executable, "-c", READ_WITH_FEW_FILES, str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (told.stdout, told.stderr) == ("6000 True\n", "")


def test_reading_many_writers_takes_little_memory_and_leaves_no_file_open(tmp_path: Path) -> None:
    folder = many_writers(tmp_path / "journal", 500, 150)
    assert sum(path.stat().st_size for path in folder.iterdir()) > 2 * 2**20
    before = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    try:
        count = sum(1 for _ in Journal(folder).rows())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 75_000 and peak < 1 * 2**20
    assert len(os.listdir("/proc/self/fd")) <= before


def test_writer_that_began_later_may_have_earlier_rows(tmp_path: Path) -> None:
    """Its clock was set back, or is another replica's: the time of a row counts, not the name of a file."""
    for started, first in ((5000, 10), (9000, 0)):
        rows = json_lines({"time": 1_750_000_000 + first + 2 * place} for place in range(10))
        (tmp_path / f"answers-{started:013d}-1-000001.jsonl").write_bytes(b"".join(rows))
    times = [row["time"] for row in Journal(tmp_path).rows()]
    assert times == sorted(times) and len(times) == 20


def test_rows_of_many_writers_go_on_where_they_were_left(tmp_path: Path) -> None:
    folder = many_writers(tmp_path / "journal", 50)
    found = Journal(folder)
    assert len(list(found.rows())) == 150
    for path in sorted(folder.iterdir())[10:20]:
        with open(path, "ab") as file:
            file.write(b'torn}\n{"time": 1750000999.5, "number": -1}\n')
    assert [row["number"] for row in found.rows()] == [-1] * 10 and found.torn == 10
    assert list(found.rows()) == []


@pytest.mark.parametrize("time", ["1" + 400 * "0", "NaN", '"later"'])
def test_time_that_is_none_holds_up_no_row(tmp_path: Path, time: str) -> None:
    for number in (1, 2):
        lines = f'{{"time": {time}}}\n{{"time": 1750000000.{number}}}\n'
        (tmp_path / f"answers-000000000000{number}-1-000001.jsonl").write_text(lines, encoding="utf-8")
    assert len(list(Journal(tmp_path).rows())) == 4


def test_row_of_a_clock_far_ahead_holds_up_no_other(tmp_path: Path) -> None:
    """Its writer's later rows would come after all of the others'."""
    ahead = time.time() + 400 * 86_400
    for number in (1, 2):
        times = [1_750_000_000 + number + 2 * place for place in range(50)]
        times[20:20] = [ahead] if number == 1 else []
        (tmp_path / f"answers-000000000000{number}-1-000001.jsonl").write_bytes(
            b"".join(json_lines({"time": one} for one in times))
        )
    found = [row["time"] for row in Journal(tmp_path).rows()]
    assert found.pop(39) == ahead and found == sorted(found) and len(found) == 100
