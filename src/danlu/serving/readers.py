"""Threads in which images are decoded that would hold up other requests."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

from danlu.prediction.predictor import Predictor
from danlu.serving.asked import Asked
from danlu.serving.lane import REMEMBERED, late
from danlu.serving.refusal import Refusal

THREADS = 2
LARGE = 8_000_000  # pixels: one such image at a time, since decoding takes up to 25 bytes for each
SECONDS_A_PIXEL = 1e-8  # until it was measured


class Readers:
    """Refuses what would be read too late, and reads nothing that is late or that nobody waits for."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="danlu-reader")
        self._large = asyncio.Lock()
        self._seconds_a_pixel = SECONDS_A_PIXEL
        self._pixels = 0  # let in and not read yet

    async def read(self, predictor: Predictor, file: bytes, pixels: int, asked: Asked) -> Any:
        """What `predictor` reads of a file. Raises `UnreadableItem`, and `Refusal` where that would be too late."""
        ahead = self._pixels * self._seconds_a_pixel / THREADS
        if time.monotonic() + ahead + pixels * self._seconds_a_pixel > asked.ends:
            raise Refusal(503, "busy", "too many images wait to be read", retry_after=max(1, math.ceil(ahead)))
        self._pixels += pixels
        try:
            async with self._large if pixels > LARGE else nullcontext():
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._pool, self._read, predictor, file, pixels, asked)
        finally:
            self._pixels -= pixels

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _read(self, predictor: Predictor, file: bytes, pixels: int, asked: Asked) -> Any:
        started = time.monotonic()
        if asked.is_gone or started > asked.ends:
            raise late()
        found = predictor.read(file)
        took = (time.monotonic() - started) / pixels
        self._seconds_a_pixel = REMEMBERED * self._seconds_a_pixel + (1 - REMEMBERED) * took
        return found
