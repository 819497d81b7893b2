"""SIGINT and SIGTERM as a wish the loop fulfils after the step at hand: save, then end with 130 or 143."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal after its state was saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class StopRequest:
    """Inside the block the first signal sets `signal`, and a second one ends the process at once.

    A process started by torchrun ignores the second: a terminal and the launcher both pass the same Ctrl-C on.
    Outside the main thread, where Python lets nobody handle signals, nothing changes.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.is_launched = "TORCHELASTIC_RUN_ID" in os.environ
        self.before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and not self.is_launched:
            os._exit(128 + number)
        self.signal = self.signal or number
