"""Every test has its own cache, runs and working folder, and one thread, so that tests do not wait for each other."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [
    str(Path(__file__).parent),
    *(
        str(Path(__file__).parent / room)
        for room in ("training", "exporting", "serving", "deploy", "monitoring", "sick", "tuning")
    ),
]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path / ".cache"))
    monkeypatch.delenv("DANLU_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("danlu.exporting.engines.SECONDS", 0.002)  # how fast a bundle is matters to no test
    monkeypatch.setattr("danlu.exporting.engines.ROUNDS", 1)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`danlu` with words as a user types them, in this process: (exit code, stdout, stderr)."""

    def call(*words: object, stdin: str | bytes | None = None) -> tuple[int, str, str]:
        from danlu.cli.main import main

        monkeypatch.setattr(sys, "argv", ["danlu", *map(str, words)])
        if stdin is not None:
            raw = stdin if isinstance(stdin, bytes) else stdin.encode()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call
