"""The journal: a line of JSON for each answer of a service, in files of limited size.

Every writer has files of its own, so several workers need no lock. Writing is never waited for: what does not fit into
the queue, or onto the disk, is counted and left out. A crash can tear the last line of a file; reading passes it over.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base.files import make_folder

FILE_BYTES = 16 * 2**20
MOST_BYTES = 512 * 2**20
MOST_QUEUED = 50_000
SECONDS = 0.25
_NAME = re.compile(r"answers-(\d{13})-(\d+)-(\d{6})\.jsonl")  # milliseconds since 1970, process, number


class JournalWriter:
    """Writes rows from a thread. `lost` counts rows that could not be written; `problem` is the last reason.

    `most_bytes` bounds all files of the folder together: the oldest go first.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES, file_bytes: int = FILE_BYTES) -> None:
        self.folder, self.lost, self.problem = folder, 0, ""
        self._most_bytes, self._file_bytes = most_bytes, min(file_bytes, most_bytes // 2)
        self._rows: deque[Mapping[str, Any]] = deque()
        self._started, self._number = time.time_ns() // 1_000_000, 0
        self._file: int | None = None
        self._written = 0
        self._is_closing = threading.Event()
        make_folder(folder)
        self._thread = threading.Thread(target=self._work, name="danlu-journal", daemon=True)
        self._thread.start()

    def add(self, row: Mapping[str, Any]) -> None:
        """Queue a row; at most 50,000 wait."""
        if len(self._rows) < MOST_QUEUED:
            self._rows.append(row)
        else:
            self.lost += 1

    def close(self) -> None:
        """Write what is queued and stop."""
        self._is_closing.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._is_closing.wait(SECONDS):
            self._flush()
        self._flush()
        self._end_file()

    def _flush(self) -> None:
        while self._rows:
            lines: list[bytes] = []
            room = self._file_bytes - self._written
            while self._rows and room > 0:
                lines.append((json.dumps(self._rows.popleft(), separators=(",", ":")) + "\n").encode())
                room -= len(lines[-1])
            try:
                self._write(b"".join(lines))
            except OSError as error:
                self.lost += len(lines)
                self.problem = error.strerror or str(error)
                self._end_file()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._number += 1
            name = f"answers-{self._started:013d}-{os.getpid()}-{self._number:06d}.jsonl"
            self._file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._written += len(data)
        if self._written >= self._file_bytes:
            self._end_file()
            self._remove_oldest()

    def _end_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._written = None, 0

    def _remove_oldest(self) -> None:
        sizes = {path: _size(path) for path in journal_files(self.folder)}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total <= self._most_bytes - self._file_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


@dataclass
class Journal:
    """What was answered, oldest file first. `torn` counts the lines that could not be read so far."""

    folder: Path
    torn: int = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        for path in journal_files(self.folder):
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # rotated away meanwhile
                continue
            for line in data.split(b"\n")[:-1]:
                row = _row(line)
                if row is None:
                    self.torn += 1
                else:
                    yield row
            self.torn += not data.endswith(b"\n") and bool(data)


def journal_files(folder: Path) -> list[Path]:
    """Oldest first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: path.name)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
