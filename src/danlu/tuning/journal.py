"""The journal of a search: Optuna's records, a JSON line each, in a file that survives the kill of any writer.

Optuna's own file backend locks by making a link, which a killed process leaves behind for 30 seconds, and does not
know of a line that ends in its midst: the next record is glued to it and both are lost. Here the lock is the
system's, which a process loses with its life, and every writer mends the end of the file before it adds to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import BaseJournalBackend

from danlu.base import log
from danlu.base.errors import MachineError, ModelError

TAIL_BYTES = 1 << 16
DURABLE = frozenset((0, 6))  # a study made, a trial's end told: what must not be lost with the power


class JournalFile(BaseJournalBackend):
    """Optuna's journal in a file. Records count from 0; only whole lines are records."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(path.with_name(f".{path.name}.lock"))
        self.read_count, self.read_bytes = 0, 0
        with self._told(), self.lock, open(path, "ab"):
            self._mend()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Records from this number on. Raises `ModelError` for a line in the midst that is no record."""
        if log_number_from < self.read_count:
            self.read_count, self.read_bytes = 0, 0
        with self._told(), open(self.path, "rb") as file:
            file.seek(self.read_bytes)
            for line in file.read().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    return  # being written, or torn: whoever writes next mends it
                number = self.read_count
                self.read_count += 1
                self.read_bytes += len(line)
                if number >= log_number_from:
                    yield self._record(line, number)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records, all or none of them."""
        lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in logs).encode()
        with self._told(), self.lock, open(self.path, "r+b", buffering=0) as file:
            self._mend()
            end = file.seek(0, os.SEEK_END)
            try:
                written = file.write(lines)
                if written != len(lines):
                    raise OSError(None, f"only {written} of {len(lines)} bytes could be written")
                if any(record.get("op_code") in DURABLE for record in logs):
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

    def _mend(self) -> None:
        """Cut a last line that was not written to its end; only while the lock is held."""
        with open(self.path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            whole = size
            while whole:
                start = max(0, whole - TAIL_BYTES)
                file.seek(start)
                place = file.read(whole - start).rfind(b"\n")
                if place >= 0:
                    whole = start + place + 1
                    break
                whole = start
            if whole < size:
                file.truncate(whole)
                os.fsync(file.fileno())
                log.warn(
                    f"`{self.path}` ended in the midst of a line, as a kill leaves it: cut its {size - whole} bytes"
                )

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ModelError(
                f"`{self.path}` is damaged: line {number + 1} is no record of Optuna's",
                hint=f"`head -n {number} {self.path}` is what is intact; keep that, and go on with `--resume`",
            )
        return record

    def _told(self) -> _Told:
        return _Told(self.path)


class _Told:
    """What the system refuses, as an error of danlu's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise MachineError(
                f"cannot use `{self.path}`: {error.strerror or error}",
                hint="free some space, then `--resume` the study",
            ) from error
