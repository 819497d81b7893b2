"""A disk that remembers every operation, and what could be left of them after the power goes.

`RecordedOs` takes the place of `os` in `danlu.base.files`. `crash_states` gives, for the first n operations, the
folders a reader could find: renames and deletions since the folder was last synced may be there or not, each by
itself; bytes since a file was last synced may be dropped, cut, zeroed or whole.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

Operation = tuple[Any, ...]
MOST_PENDING = 5


class RecordedOs:
    """`os`, with a list of what was done; operation number `fails_at` raises an OSError instead."""

    def __init__(self, fails_at: int | None = None, error: int = errno.ENOSPC, short_writes: bool = False) -> None:
        self.operations: list[Operation] = []
        self.fails_at = fails_at
        self.error = error
        self.short_writes = short_writes
        self.places: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _note(self, *operation: Any) -> None:
        if self.fails_at is not None and len(self.operations) == self.fails_at:
            self.fails_at = None
            raise OSError(self.error, os.strerror(self.error))
        self.operations.append(operation)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self._note("create", str(path), bool(flags & os.O_TRUNC))
        handle = os.open(path, flags, mode)
        self.places[handle] = str(path)
        return handle

    def write(self, handle: int, data: Any) -> int:
        if self.short_writes:
            data = data[: max(1, len(data) // 2)]
        self._note("write", self.places[handle], bytes(data))
        return os.write(handle, data)

    def fsync(self, handle: int) -> None:
        self._note("sync", self.places[handle])
        os.fsync(handle)

    def replace(self, source: Any, target: Any) -> None:
        self._note("replace", str(source), str(target))
        os.replace(source, target)

    def unlink(self, path: Any) -> None:
        self._note("unlink", str(path))
        os.unlink(path)


class _File:
    def __init__(self) -> None:
        self.synced, self.data = b"", b""

    def left(self, mode: str) -> bytes:
        """What is read after the crash."""
        new = self.data[len(self.synced) :]
        rest = {"dropped": b"", "cut": new[: len(new) // 2], "zeroed": b"\0" * len(new), "whole": new}
        return self.synced + rest[mode]


def crash_states(operations: list[Operation], folder: Path) -> Iterator[dict[str, bytes]]:
    """Every content (file name → bytes) `folder` could have when the power goes after these operations."""
    durable: dict[str, _File] = {}
    now: dict[str, _File] = {}
    pending: list[tuple[str, str | None, _File | None]] = []  # (name that goes, name that comes, file)
    for operation in operations:
        kind, path = operation[0], operation[1]
        if kind == "create":
            if path not in now:
                now[path] = _File()
                pending.append(("", path, now[path]))
            elif operation[2]:
                now[path].data = now[path].synced = b""
        elif kind == "write":
            now[path].data += operation[2]
        elif kind == "sync" and path == str(folder):
            durable, pending = dict(now), []
        elif kind == "sync":
            now[path].synced = now[path].data
        elif kind == "replace":
            now[operation[2]] = now.pop(path)
            pending.append((path, operation[2], now[operation[2]]))
        elif kind == "unlink":
            del now[path]
            pending.append((path, None, None))
    assert len(pending) <= MOST_PENDING, "too many operations between two syncs of the folder"
    for happened in product((False, True), repeat=len(pending)):
        names = dict(durable)
        for (gone, come, file), is_there in zip(pending, happened, strict=True):
            if is_there:
                names.pop(gone, None)
                if come is not None and file is not None:
                    names[come] = file
        for mode in ("dropped", "cut", "zeroed", "whole"):
            yield {Path(name).name: file.left(mode) for name, file in names.items()}
