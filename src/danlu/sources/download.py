"""Fetch a file once: mirrors in turn, resume of a broken transfer, a checksum before the file gets its name."""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from danlu.base import log
from danlu.base.errors import DataError, MachineError
from danlu.base.files import CHUNK_BYTES, make_folder, sha256_of_file, sync_folder

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A file with its mirrors, best first. `sha256` is of the whole file, `size_bytes` its length."""

    name: str
    urls: tuple[str, ...]
    sha256: str
    size_bytes: int


def fetch(file: RemoteFile, folder: Path) -> Path:
    """The file below `folder`, downloaded unless it is there with the right checksum.

    A broken transfer leaves `NAME.part`, which the next call continues. Raises `MachineError` when no mirror
    answers and `DataError` when the bytes that come are not the ones expected.
    """
    target = folder / file.name
    if target.exists() and sha256_of_file(target) == file.sha256:
        return target
    make_folder(folder)
    partial = folder / f"{file.name}.part"
    failures: list[str] = []
    for url in file.urls:
        try:
            resumed = _transfer(url, partial, file)
            found = sha256_of_file(partial)
            if resumed and found != file.sha256:  # the start may have come from a mirror that sent something else
                partial.unlink()
                _transfer(url, partial, file)
                found = sha256_of_file(partial)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url}: {error}")
            log.say(f"{url} failed ({error})")
            continue
        if found == file.sha256:
            os.replace(partial, target)
            sync_folder(folder)
            return target
        partial.unlink()
        failures.append(f"{url}: checksum {found[:12]}…, expected {file.sha256[:12]}…")
        log.say(failures[-1])
    wrong = any(": checksum " in failure or ": sends more than " in failure for failure in failures)
    raise (DataError if wrong else MachineError)(
        f"`{file.name}` could not be fetched\n" + "\n".join(f"  {failure}" for failure in failures),
        hint="on a machine without network: copy the files there and run `danlu data get NAME --from PATH`",
    )


def take(file: RemoteFile, places: Sequence[Path], folder: Path) -> Path:
    """Copy `file` from one of `places` (files or folders) into `folder` after checking its checksum."""
    candidates = [place / file.name if place.is_dir() else place for place in places]
    for path in candidates:
        if path.is_file() and path.name == file.name:
            if (found := sha256_of_file(path)) != file.sha256:
                raise DataError(f"`{path}` has the checksum {found[:12]}…, expected {file.sha256[:12]}…")
            make_folder(folder)
            partial = folder / f"{file.name}.part"
            partial.write_bytes(path.read_bytes())
            os.replace(partial, folder / file.name)
            return folder / file.name
    looked = ", ".join(f"`{place}`" for place in places)
    raise DataError(f"no `{file.name}` in {looked}")


def _transfer(url: str, partial: Path, file: RemoteFile) -> bool:
    """Bring `partial` to its full length, and say whether it began with bytes of an earlier transfer."""
    start = partial.stat().st_size if partial.exists() else 0
    if start >= file.size_bytes:
        start = 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (addresses are ours)
    with contextlib.closing(urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)) as answer:  # noqa: S310
        resumed = start > 0 and answer.status == 206
        with open(partial, "ab" if resumed else "wb") as out, _progress(file, start if resumed else 0) as advance:
            while chunk := answer.read(CHUNK_BYTES):
                out.write(chunk)
                advance(len(chunk))
                if out.tell() > file.size_bytes:
                    raise ValueError(f"sends more than the {file.size_bytes:,} bytes expected")
    if partial.stat().st_size < file.size_bytes:
        raise ValueError(f"ended after {partial.stat().st_size:,} of {file.size_bytes:,} bytes")
    return resumed


@contextlib.contextmanager
def _progress(file: RemoteFile, done: int):  # type: ignore[no-untyped-def]
    """Yields `advance(bytes)`: a bar on a terminal, else one line at the start."""
    if not log.is_interactive():
        log.say(f"fetching {file.name} ({file.size_bytes / 1e6:.1f} MB)")
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(file.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(file.name, total=file.size_bytes, completed=done)
        advance: Callable[[int], None] = lambda count: bar.advance(task, count)  # noqa: E731
        yield advance
