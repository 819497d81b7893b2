"""What a process of our own asks of the system before it trains."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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
