"""What a process of our own asks of the system before it trains."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from danlu.base.machine import available_cores, memory_bytes, most_memory_bytes

FAULTS = """
import resource, sys
import danlu.base.machine as machine
if sys.argv[1] == "suited":
    machine.suit_process_to_training()
import numpy as np
def use():
    for _ in range(20):
        np.ones(8_000_000)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU library can be asked")
def test_freed_buffers_are_used_again_without_new_pages() -> None:
    assert faults("suited") < 100 < faults("plain")


@pytest.mark.parametrize(
    ("quotas", "told"),
    [
        ({}, 8),
        ({"": "max 100000"}, 8),
        ({"": "150000 100000"}, 2),
        ({"": "10000 100000"}, 1),
        ({"": "3200000 100000"}, 8),
        ({"a": "300000 100000", "a/b": "max 100000"}, 3),
        ({"a": "300000 100000", "a/b": "100000 100000"}, 1),
        ({"": "nonsense"}, 8),
    ],
)
def test_cores_are_no_more_than_a_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quotas: dict[str, str], told: int
) -> None:
    (tmp_path / "own").write_text("4:memory:/x\n0::/a/b\n", encoding="ascii")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for group, quota in quotas.items():
        (tmp_path / group / "cpu.max").write_text(quota + "\n", encoding="ascii")
    monkeypatch.setattr("danlu.base.machine.GROUPS", tmp_path)
    monkeypatch.setattr("danlu.base.machine.OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores() == told


def test_memory_is_no_more_than_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").write_text("0::/a/b\n", encoding="ascii")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr("danlu.base.machine.GROUPS", tmp_path)
    monkeypatch.setattr("danlu.base.machine.OWN_GROUP", tmp_path / "own")
    whole = most_memory_bytes()
    assert whole == memory_bytes()[0] > 0
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n", encoding="ascii")
    assert most_memory_bytes() == whole
    (tmp_path / "a" / "memory.max").write_text("104857600\n", encoding="ascii")
    assert most_memory_bytes() == 100 * 2**20
