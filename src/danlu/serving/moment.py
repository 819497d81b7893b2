"""A service for as long as a block lasts, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from danlu.base.errors import MachineError

STARTS_WITHIN = 60.0
ENDS_WITHIN = 40.0
_ADDRESS = re.compile(rb"serving on (http://\S+)")


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The address of one worker that serves `bundle` on a free port, without a journal. Raises `MachineError`.

    >>> with served(Path("runs/latest/bundle")) as address:     # doctest: +SKIP
    ...     Client(address).predict("a.jpg")
    """
    options = ["--port", "0", "--workers", "1", "--journal", "-"]
    words = [sys.executable, "-P", "-m", "danlu", "serve", str(bundle), *options]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield _address(process)
        finally:
            process.terminate()
            try:
                process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes]) -> str:
    """What the service says when it can answer."""
    told, ends = b"", time.monotonic() + STARTS_WITHIN
    while process.stderr is not None and time.monotonic() < ends:
        line = process.stderr.readline()
        if not line:
            break
        told += line
        if found := _ADDRESS.search(line):
            return found[1].decode()
    raise MachineError("the service did not start", hint=told.decode("utf-8", "replace").strip() or None)
