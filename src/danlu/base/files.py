"""Every file operation that must survive a crash goes through here, and through no other file.

Protocol: temporary name in the same folder → write all → fsync → `os.replace` → fsync the folder.
A reader sees the old file or the new one, never half of one. Tests replace `os` in this module to record every
operation and to let each of them fail.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from danlu.base.errors import MachineError

CHUNK_BYTES = 1 << 20
SEAL = "sha256"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_END_OF_FILE = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_PLAIN_LIST = re.compile(r'\[\n([^\[\]{}"]*)\n *\]')


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Call `write(file)` on a temporary file beside `path` and put it in place of `path` once it is on disk.

    A full disk, a read-only or a vanished folder raises `MachineError`, and the old file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _told(path):
        try:
            with _Handle(temporary, _NEW_FILE) as file:
                write(file)
                file.sync()
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table with `\\n` after each row, as plain as it reads back on every Python."""
    table = list(rows)
    out = io.StringIO()
    # Python before 3.13 leaves a carriage return unquoted, and a file name may hold one.
    odd = any("\r" in cell for row in table for cell in row if isinstance(cell, str))
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL)
    writer.writerow(header)
    writer.writerows(table)
    write_text(path, out.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Indented, a list of numbers on one line."""
    indented = json.dumps(value, ensure_ascii=False, indent=2)  # a line ends between values only, never in a string
    write_text(path, _PLAIN_LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", indented) + "\n")


def write_sealed_json(path: Path, values: Mapping[str, Any]) -> None:
    """As `write_json`, with the hash of the values, by which a reader knows that nobody changed them."""
    write_json(path, {**values, SEAL: digest_of(values)})


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of values as JSON has them, whatever their order.

    >>> digest_of({"a": 1, "b": {2: 3}}) == digest_of({"b": {"2": 3}, "a": 1})
    True
    """
    as_read = json.loads(json.dumps(values))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises `MachineError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder `{folder}`: {error.strerror or error}",
            hint="choose another place: `--out` for what a command writes, `DANLU_RUNS=…` for runs, `DANLU_CACHE=…` for"
            " downloads",
        ) from error


def append_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Add to the end of a file; a crash can tear at most what is added. `durable` waits until it is on disk."""
    is_new = not path.exists()
    with _told(path):
        with _Handle(path, _END_OF_FILE) as file:
            file.write(text.encode("utf-8"))
            if durable:
                file.sync()
        if is_new and durable:
            sync_folder(path.parent)


def point_link(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    with _told(link):
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, link)


def remove_file(path: Path) -> None:
    """Delete a file, if it is there."""
    with _told(path):
        if os.path.lexists(path):
            os.unlink(path)


def replace_folder(built: Path, target: Path) -> None:
    """Make a finished folder the one at `target`; what was there is gone only after that."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    with _told(target):
        remove_folder(old)
        sync_folder(built)
        if os.path.lexists(target):
            os.rename(target, old)
        try:
            os.rename(built, target)
        except OSError:
            if os.path.lexists(old):
                os.rename(old, target)
            raise
        sync_folder(target.parent)
    remove_folder(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder with what is in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make a rename or a deletion in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class _Handle(io.RawIOBase):
    """An open file that writes all it is given, or raises."""

    def __init__(self, path: Path, flags: int) -> None:
        self.handle = os.open(path, flags, 0o666)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            left = left[os.write(self.handle, left[: 64 * CHUNK_BYTES]) :]
        return size

    def sync(self) -> None:
        os.fsync(self.handle)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self.handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"cannot write `{path}`: {error.strerror or error}",
            hint="free some space, or choose another place: `--out` for what a command writes, `DANLU_RUNS=…` for runs",
        ) from error
