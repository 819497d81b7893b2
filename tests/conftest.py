"""Every test has its own cache, runs and working folder, and one thread, so that tests do not wait for each other."""

from __future__ import annotations

import os
import sys
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
