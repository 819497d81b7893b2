"""Threads in which images are decoded that would hold up other requests."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from danlu.inputs.images import ManyPixels
from danlu.prediction.predictor import Predictor
from danlu.serving.asked import Asked
from danlu.serving.lane import REMEMBERED, late
from danlu.serving.refusal import Refusal

THREADS = 2
MIB = 2**20
SECONDS_A_PIXEL = 1e-8  # until it was measured


class Readers:
    """Refuses what would be read too late, or would need more than `most_bytes` of memory to be decoded, and reads
    nothing that is late or that nobody waits for. What is decoded at one time needs no more than that together."""

    def __init__(self, most_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="danlu-reader")
        self._most_bytes, self._taken_bytes = most_bytes, 0
        self._door, self._freed = asyncio.Lock(), asyncio.Event()
        self._seconds_a_pixel = SECONDS_A_PIXEL
        self._pixels = 0  # let in and not read yet

    async def read(self, predictor: Predictor, file: bytes, image: ManyPixels, asked: Asked) -> Any:
        """What `predictor` reads of a file. Raises `UnreadableItem`, and `Refusal` where that would be too late."""
        pixels = image.pixels
        if image.room_bytes > self._most_bytes:
            raise Refusal(
                413,
                "too_many_pixels",
                f"decoding this image takes up to {image.room_bytes / MIB:,.0f} MiB of memory, and here it may take"
                f" {self._most_bytes / MIB:,.0f}: send it smaller",
            )
        ahead = self._pixels * self._seconds_a_pixel / THREADS
        if time.monotonic() + ahead + pixels * self._seconds_a_pixel > asked.ends:
            raise Refusal(503, "busy", "too many images wait to be read", retry_after=max(1, math.ceil(ahead)))
        self._pixels += pixels
        try:
            async with self._room(image.room_bytes):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._pool, self._read, predictor, file, pixels, asked)
        finally:
            self._pixels -= pixels

    @asynccontextmanager
    async def _room(self, size_bytes: int) -> AsyncIterator[None]:
        async with self._door:  # in their order: small ones do not pass a large one for ever
            while self._taken_bytes + size_bytes > self._most_bytes:
                self._freed.clear()
                await self._freed.wait()
            self._taken_bytes += size_bytes
        try:
            yield
        finally:
            self._taken_bytes -= size_bytes
            self._freed.set()

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
