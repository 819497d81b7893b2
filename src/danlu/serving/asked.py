"""One request, as far as it concerns its answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Asked:
    """`ends`: when the answer is late, by `time.monotonic`. `key`: what keeps it at one bundle. `is_gone`: nobody waits
    for the answer any more. `is_tensor`: it came by the Open Inference Protocol."""

    id: str
    ends: float
    key: str | None = None
    is_gone: bool = False
    is_tensor: bool = False
    started: float = field(default_factory=time.monotonic)
