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
from itertools import groupby
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
REFERENCES = "references"
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
        """Those that were not read before, in the order of their `time`, as far as each writer keeps it."""
        files = sorted((path for folder in self.folders for path in journal_files(folder)), key=_writer_of)
        writers = [list(group) for _, group in groupby(files, key=_writer_of)]
        yield from heapq.merge(*(self._rows_of(own) for own in writers), key=_time_of)

    def references(self) -> dict[str, Any]:
        """Model → its reference statistics, as the service left them. Raises `ModelError` for a damaged file."""
        found = {}
        for path in sorted(path for folder in self.folders for path in (folder / REFERENCES).glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                found[str(content["model"])] = content["reference"]
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                raise ModelError(f"`{path}` does not hold reference statistics: {error}") from error
        return found

    def _rows_of(self, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
        for path in files:
            with suppress(FileNotFoundError), open(path, "rb") as file:  # it may be rotated away meanwhile
                file.seek(self._read.get(path, 0))
                while line := file.readline(LONGEST_LINE):
                    is_whole = line.endswith(b"\n")
                    if not is_whole and len(line) < LONGEST_LINE:
                        break
                    self._read[path] = self._read.get(path, 0) + len(line)
                    row = _row(line) if is_whole else None
                    if row is None:
                        self.torn += 1
                    else:
                        yield row


def keep_reference(folder: Path, model: str, version: str, reference: Mapping[str, Any]) -> None:
    """Lay the reference statistics of a model beside its answers. `version`: of its bundle, in hexadecimal digits."""
    make_folder(folder / REFERENCES)
    write_json(folder / REFERENCES / f"{version}.json", {"format": 1, "model": model, "reference": reference})


def journal_files(folder: Path) -> list[Path]:
    """Oldest first."""
    there = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in there if _NAME.fullmatch(path.name) and path.is_file()]
    return sorted(found, key=lambda path: path.name)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _time_of(row: Mapping[str, Any]) -> float:
    time = row.get("time")
    return float(time) if isinstance(time, (int, float)) else 0.0


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
