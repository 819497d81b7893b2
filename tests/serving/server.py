"""A real `danlu serve` for tests, in a process of its own, on a free port."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

STARTS_WITHIN = 30.0
ENDS_WITHIN = 40.0
# The command, with settings that have no option.
WITH_SETTINGS = """
import dataclasses, sys
import danlu.serving.serve as module
from danlu.cli.main import main
serve = module.serve
module.serve = lambda places, settings: serve(places, dataclasses.replace(settings, **{settings}))
sys.exit(main())
"""


class Server:
    """`with Server([bundle]) as server: server.post(…)`. What it says goes to `server.log`.

    `settings`: of `ServeSettings`, which have no option.
    """

    def __init__(self, bundles: list[Path], folder: Path, *options: object, **settings: object) -> None:
        self.folder = folder
        self.log_file = folder / "serve.log"
        start = ["-c", WITH_SETTINGS.format(settings=settings)] if settings else ["-m", "danlu"]
        self._words = [sys.executable, *start, "serve", *bundles, "--port", 0, *options]

    def __enter__(self) -> Server:
        with open(self.log_file, "wb") as out:
            self.process = subprocess.Popen(
                [str(word) for word in self._words],
                cwd=self.folder,
                stderr=out,
                stdout=out,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        ends = time.monotonic() + STARTS_WITHIN
        while (found := re.search(r"serving on http://([\d.]+):(\d+)", self.log)) is None:
            if self.process.poll() is not None or time.monotonic() > ends:
                self.process.kill()
                raise RuntimeError(f"the service did not start:\n{self.log}")
            time.sleep(0.02)
        self.host, self.port = found[1], int(found[2])
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.stop()

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def workers(self) -> list[int]:
        """The process numbers of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [int(word) for word in children.split()]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDS_WITHIN)

    def connect(self, timeout: float = 10.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or text) and headers of an answer on a connection of its own."""
        connection = self.connect()
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind:
            told["Content-Type"] = kind
        try:
            connection.request(method, path, body, told)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        is_json = found.get("content-type", "").startswith("application/json")
        return response.status, json.loads(data) if is_json else data.decode("utf-8", "replace"), found

    def post(self, content: Any, path: str = "/predict", **headers: str) -> tuple[int, Any]:
        """JSON, or bytes as a file."""
        if isinstance(content, bytes):
            return self.ask("POST", path, content, "application/octet-stream", **headers)[:2]
        return self.ask("POST", path, json.dumps(content).encode(), "application/json", **headers)[:2]
