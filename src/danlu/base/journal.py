"""The journal: a line of JSON for each answer of a service, in files of limited size.

Every writer has files of its own, so several workers need no lock. Writing is never waited for: what does not fit into
the queue, or onto the disk, is counted and left out. A crash can tear the last line of a file; reading passes it over.
Beside the answers lie the reference statistics of each model that gave them, so that a monitor needs no bundle.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from danlu.base import log
from danlu.base.errors import ModelError
from danlu.base.files import make_folder, write_json
from danlu.base.machine import is_alive

FILE_BYTES = 16 * 2**20
MOST_BYTES = 512 * 2**20
MOST_QUEUED = 50_000
SECONDS = 0.05
AT_ONCE = 1000  # lines to a call of the system
LONGEST_LINE = 1 << 20
BLOCK_BYTES = (4 * 2**10, 64 * 2**10)  # that are read of a file at once
MOST_BLOCKS_BYTES = 16 * 2**20  # of all writers together
EARLIEST = 1_577_836_800.0  # seconds since 1970, in 2020: older than every journal
MOST_AHEAD = 86_400.0  # seconds; zones that are set wrongly are less apart
REFERENCES = "references"
_VERSION = re.compile(r"[0-9a-f]{1,64}")
_NAME = re.compile(r"answers-(\d{13})-(\d+)-(\d{6})\.jsonl")  # milliseconds since 1970, process, number


class JournalWriter:
    """Writes lines from a thread, which only copies bytes: making lines there would take Python's lock from requests.
    `lost` counts what could not be written; `problem` is the last reason.

    `most_bytes` bounds all files of the folder together: the oldest go first.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES, file_bytes: int = FILE_BYTES) -> None:
        self.folder, self.lost, self.problem = folder, 0, ""
        self._most_bytes, self._file_bytes = most_bytes, min(file_bytes, most_bytes // 2)
        self._added: deque[bytes] = deque()
        self._started, self._number = time.time_ns() // 1_000_000, 0
        self._file: int | None = None
        self._written = 0
        self._is_closing = threading.Event()
        make_folder(folder)
        self._thread = threading.Thread(target=self._work, name="danlu-journal", daemon=True)
        self._thread.start()

    def add(self, lines: Sequence[bytes]) -> None:
        """Queue lines, each with its end; at most 50,000 wait."""
        taken = lines[: max(0, MOST_QUEUED - len(self._added))]
        self._added.extend(taken)
        self.lost += len(lines) - len(taken)

    def close(self) -> None:
        """Write what is queued and stop."""
        self._is_closing.set()
        self._thread.join()

    def lose(self, count: int, problem: str) -> None:
        """Count lines that will not be written, and warn where that is for another reason than before."""
        is_new = problem != self.problem
        self.lost += count
        self.problem = problem
        if is_new:
            with suppress(OSError):  # the disk that is full may also be the log's
                log.warn(f"answers are missing in the journal: {problem}")

    def _work(self) -> None:
        while not self._is_closing.wait(SECONDS):
            self._flush()
        self._flush()
        self._end_file()

    def _flush(self) -> None:
        while self._added:
            self._write_lines([self._added.popleft() for _ in range(min(AT_ONCE, len(self._added)))])

    def _write_lines(self, lines: Sequence[bytes]) -> None:
        """Into as many files as they need."""
        start = 0
        while start < len(lines):
            room, end = self._file_bytes - self._written, start
            while end < len(lines) and room > 0:
                room -= len(lines[end])
                end += 1
            try:
                self._write(b"".join(lines[start:end]))
            except OSError as error:
                self.lose(end - start, error.strerror or str(error))
                self._end_file()
            start = end

    def _write(self, data: bytes) -> None:
        if self._file is not None and os.fstat(self._file).st_nlink == 0:  # another writer made room
            self._end_file()
        if self._file is None:
            self._remove_oldest()
            self._number += 1
            name = f"answers-{self._started:013d}-{os.getpid()}-{self._number:06d}.jsonl"
            self._file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._written += len(data)
        if self._written >= self._file_bytes:
            self._end_file()

    def _end_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._written = None, 0

    def _remove_oldest(self) -> None:
        """Make room for a file of this writer, and of each other that lives; what was written to longest ago goes."""
        found = {path: _size_and_time(path) for path in journal_files(self.folder)}
        processes = {int(_writer_of(path)[2]) for path in found} - {os.getpid()}
        writers = 1 + sum(map(is_alive, processes))
        room = max(self._most_bytes - writers * self._file_bytes, self._most_bytes // 4)
        total = sum(size for size, _ in found.values())
        for path, (size, _) in sorted(found.items(), key=lambda item: item[1][1]):
            if total <= room:
                break
            with suppress(OSError):  # what cannot be removed stops no writing
                path.unlink(missing_ok=True)
                total -= size


class Journal:
    """What was answered, by one service or by the replicas of one, each with a folder of its own. `torn` counts the
    lines so far that could not be read; a last one may still come whole."""

    def __init__(self, *folders: Path) -> None:
        self.folders, self.torn = folders, 0
        self._read: dict[Path, int] = {}  # bytes of each file that were read

    def rows(self) -> Iterator[dict[str, Any]]:
        """Those that were not read before, in the order of their `time`, as far as each writer keeps it; a row whose
        time lies ahead of now comes with those of its writer before it.

        One file is open at a time, and of a writer whose time has not come nothing is held but that time: there may be
        thousands of writers, as each start of a worker is one.
        """
        files = sorted((path for folder in self.folders for path in journal_files(folder)), key=_writer_of)
        writers = [list(group) for _, group in groupby(files, key=_writer_of)]
        smallest, largest = BLOCK_BYTES
        block = min(largest, max(smallest, MOST_BLOCKS_BYTES // max(1, len(writers))))
        latest = time.time() + MOST_AHEAD
        starts = [self._next_time(own, latest) for own in writers]
        heads = [(start, number) for number, start in enumerate(starts) if start is not None]
        heapq.heapify(heads)
        begun: dict[int, Iterator[dict[str, Any]]] = {}
        held: dict[int, dict[str, Any]] = {}  # of each that began, the row whose time has not come
        while heads:
            _, number = heapq.heappop(heads)
            later = begun.pop(number, None) or self._rows_of(writers[number], block)
            first = [held.pop(number)] if number in held else []
            for row in chain(first, later):
                if heads and heads[0] < (head := (_time_of(row, latest), number)):
                    heapq.heappush(heads, head)
                    begun[number], held[number] = later, row
                    break
                yield row

    def references(self) -> dict[str, Any]:
        """Model → its reference statistics, of all that ever answered. Raises `ModelError` for a damaged file."""
        paths = sorted(path for folder in self.folders for path in (folder / REFERENCES).glob("*.json"))
        return dict(map(_read_reference, paths))

    def reference(self, model: str) -> Any | None:
        """The reference statistics of a model, as the service left them; None where there are none. Raises `ModelError`
        for a damaged file."""
        version = model.rpartition("@")[2]
        if not _VERSION.fullmatch(version):  # what an answer says is not to name any file
            return None
        for folder in self.folders:
            path = folder / REFERENCES / f"{version}.json"
            if path.is_file():
                found, reference = _read_reference(path)
                if found == model:  # a bundle may be served under two names
                    return reference
        return None

    def _next_time(self, files: Sequence[Path], latest: float) -> float | None:
        """Of the first row of a writer that was not read, which stays unread; None where it has none."""
        for path, start, row in self._placed(files, BLOCK_BYTES[0]):
            self._read[path] = start
            return _time_of(row, latest)
        return None

    def _rows_of(self, files: Sequence[Path], block: int) -> Iterator[dict[str, Any]]:
        return (row for _, _, row in self._placed(files, block))

    def _placed(self, files: Sequence[Path], block: int) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        """Each row that was not read, with its file and where it starts in it."""
        for path in files:
            with suppress(FileNotFoundError):  # it may be rotated away meanwhile
                end = self._read.get(path, 0)
                for line in _lines(path, end, block):
                    start, end = end, end + len(line)
                    self._read[path] = end
                    row = _row(line) if line.endswith(b"\n") else None
                    if row is None:
                        self.torn += 1
                    else:
                        yield path, start, row


def keep_reference(folder: Path, model: str, version: str, reference: Mapping[str, Any]) -> None:
    """Lay the reference statistics of a model beside its answers. `version`: of its bundle, in hexadecimal digits."""
    make_folder(folder / REFERENCES)
    write_json(folder / REFERENCES / f"{version}.json", {"format": 1, "model": model, "reference": reference})


def _read_reference(path: Path) -> tuple[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["model"]), content["reference"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"`{path}` does not hold reference statistics: {error}") from error


def can_be(time: float, now: float) -> bool:
    """Whether a service that wrote this time had a clock: one that starts without says 1970, or any year."""
    return EARLIEST <= time <= now + MOST_AHEAD


def journal_files(folder: Path) -> list[Path]:
    """Oldest first."""
    there = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in there if _NAME.fullmatch(path.name) and path.is_file()]
    return sorted(found, key=lambda path: path.name)


def _lines(path: Path, start: int, block: int) -> Iterator[bytes]:
    """The whole lines of a file from a place on, and pieces of those that are too long. The file is open only while a
    block of it is read."""
    rest = b""
    while data := _block(path, start, block):
        start += len(data)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if len(line) < LONGEST_LINE:
                yield line + b"\n"
            else:
                yield from _pieces(line + b"\n")
        if len(rest) >= LONGEST_LINE:
            *pieces, rest = _pieces(rest)
            yield from pieces


def _block(path: Path, start: int, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        return file.read(size)


def _pieces(line: bytes) -> Iterator[bytes]:
    for place in range(0, len(line), LONGEST_LINE):
        yield line[place : place + LONGEST_LINE]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _time_of(row: Mapping[str, Any], latest: float) -> float:
    """0 where it cannot be: a clock that was far ahead for a moment is no reason to hold up all that comes after."""
    found = row.get("time")
    return float(found) if isinstance(found, (int, float)) and 0 < found <= latest else 0.0


def _writer_of(path: Path) -> tuple[Path, str, str]:
    """Where it writes, when it started, and its process; the files of one sort by their number."""
    started, process, _ = path.stem.removeprefix("answers-").split("-")
    return path.parent, started, process


def _size_and_time(path: Path) -> tuple[int, float]:
    """Bytes, and when it was written to last."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0.0
    return found.st_size, found.st_mtime
