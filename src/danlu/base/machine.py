"""What this machine has, and where danlu keeps what it can make again."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of malloc.h
PACKAGES = ("torch", "numpy", "pillow", "tokenizers", "pydantic", "safetensors", "scikit-learn", "onnxruntime")
_CPU_MAX = re.compile(r"(\d+) (\d+)")  # `max` in place of the first is no limit
GROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cache_folder() -> Path:
    """`DANLU_CACHE`, else `danlu` below the system's cache folder."""
    named = os.environ.get("DANLU_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "danlu"


def available_cores() -> int:
    """Processor cores this process may use, which can be fewer than the machine has: by its affinity, or by the quota
    that a container or a unit of systemd has, which counts as the next whole number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota() -> float | None:
    """Processor seconds a second that the control group, or one above it, may use."""
    told = map(_CPU_MAX.fullmatch, _told_by_groups("cpu.max"))
    return min((int(found[1]) / int(found[2]) for found in told if found), default=None)


def _told_by_groups(name: str) -> list[str]:
    """A file of the control group of this process and of those above it (Linux, version 2 of the groups)."""
    found: list[str] = []
    with suppress(OSError):
        rows = OWN_GROUP.read_text(encoding="utf-8").splitlines()
        for own in [GROUPS / row.removeprefix("0::").strip("/") for row in rows if row.startswith("0::")]:
            for group in [own, *own.parents]:
                with suppress(OSError):
                    found.append((group / name).read_text(encoding="utf-8").strip())
    return found


def is_oversubscribed() -> bool:
    """More processes want to run than there are cores, by the mean of the last minute: times mean little."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > available_cores()


def suit_process_to_training() -> None:
    """Threads and memory as training steps like them; call before PyTorch is imported, only in a process of our own."""
    _spin_briefly()
    _keep_freed_memory()


def _spin_briefly() -> None:
    """Let idle processor threads spin for some 50 µs and then sleep.

    GNU OpenMP's default is to spin for milliseconds, which on a machine busy with other work makes steps many times
    slower; never to spin makes small steps twice as slow (figures: docs/LOG.md, 2026-11-21). What the user has set
    stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _keep_freed_memory() -> None:
    """Let the C library keep freed buffers up to 1 GiB for the next ones.

    By default it gives large blocks back to the system after each use, and the system clears every page anew: a third
    of the time of a training step of convolutions (figures: docs/LOG.md, 2026-11-21). Only the GNU library has this.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    set_option = ctypes.CDLL(None).mallopt
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):  # one without the other makes it worse
        if not set_option(option, 1 << 30):
            set_option(option, 32 << 20)  # the most that older versions take


def memory_bytes() -> tuple[int, int]:
    """(total, available) memory in bytes; (0, 0) where the system does not tell."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return tuple(int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]
    except (OSError, KeyError, ValueError):
        return (0, 0)


def most_memory_bytes() -> int:
    """What this process may use at most: of a container its limit, otherwise all; 0 where the system does not tell."""
    limits = [int(text) for text in _told_by_groups("memory.max") if text.isdigit()]
    return min([*limits, memory_bytes()[0]])


def package_versions() -> dict[str, str | None]:
    """Installed versions by name; None for what is missing. Nothing is imported."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def environment() -> dict[str, Any]:
    """What a run records of the machine it was made on."""
    import danlu

    return {
        "danlu": danlu.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": available_cores(),
        "memory_gb": round(memory_bytes()[0] / 1e9, 1),
        "packages": {name: found for name, found in package_versions().items() if found},
    }


def free_disk_bytes(folder: Path) -> int:
    """Free bytes of the file system `folder` is, or would be, on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def is_alive(process: object) -> bool:
    """Whether a process of this number runs on this machine; unknown, and so False, where that cannot be asked.

    >>> is_alive(os.getpid()), is_alive(None), is_alive(10**20)
    (True, False, False)
    """
    if not isinstance(process, int) or os.name != "posix":  # elsewhere `os.kill` would end it
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # someone else's
    return True
