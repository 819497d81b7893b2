"""Threads that decode images: as many at a time as memory allows, in their order, and nothing in vain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from danlu.inputs.images import ManyPixels
from danlu.serving.asked import Asked
from danlu.serving.readers import Readers
from danlu.serving.refusal import Refusal

MEGA = 10**6


class Decoder:
    """In place of a predictor: what it reads waits until it may go on; `b"bad"` cannot be read."""

    def __init__(self) -> None:
        self.read_files: list[bytes] = []
        self.may_go_on = threading.Event()

    def read(self, file: bytes) -> bytes:
        self.read_files.append(file)
        self.may_go_on.wait(10)
        if file == b"bad":
            raise ValueError("bad")
        return file


def run(what: Callable[[Readers, Decoder], Awaitable[Any]], most_bytes: int = 100) -> Any:
    async def whole() -> Any:
        readers, decoder = Readers(most_bytes), Decoder()
        try:
            return await asyncio.wait_for(what(readers, decoder), 10)
        finally:
            decoder.may_go_on.set()
            readers.close()

    return asyncio.run(whole())


def reading(
    readers: Readers, decoder: Decoder, file: bytes, *, room: int = 1, pixels: int = 1, who: Asked | None = None
) -> asyncio.Task[Any]:
    asked = who or Asked("a", time.monotonic() + 5)
    return asyncio.ensure_future(readers.read(decoder, file, ManyPixels(pixels, room), asked))  # type: ignore[arg-type]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0.005)


def test_images_that_need_too_much_memory_together_are_decoded_in_turn() -> None:
    async def what(readers: Readers, decoder: Decoder) -> tuple[list[bytes], list[bytes]]:
        all_ = [reading(readers, decoder, file, room=60) for file in (b"1", b"2", b"3")]
        await settled()
        at_first = list(decoder.read_files)
        decoder.may_go_on.set()
        return at_first, await asyncio.gather(*all_)

    assert run(what) == ([b"1"], [b"1", b"2", b"3"])


def test_small_image_does_not_pass_a_large_one() -> None:
    async def what(readers: Readers, decoder: Decoder) -> list[bytes]:
        all_ = [reading(readers, decoder, file, room=room) for file, room in ((b"a", 60), (b"large", 90), (b"b", 1))]
        await settled()
        at_first = list(decoder.read_files)
        decoder.may_go_on.set()
        await asyncio.gather(*all_)
        return at_first

    assert run(what) == [b"a"]


def test_image_that_cannot_be_read_gives_its_room_back() -> None:
    async def what(readers: Readers, decoder: Decoder) -> list[Any]:
        decoder.may_go_on.set()
        return [
            await asyncio.gather(reading(readers, decoder, file, room=90), return_exceptions=True)
            for file in (b"bad", b"bad", b"good")
        ]

    *_, (last,) = run(what)
    assert last == b"good"


def test_images_that_were_decoded_hold_up_nobody() -> None:
    """A hundred million pixels take a second by the first guess, and each of these may take a second and a half."""

    async def what(readers: Readers, decoder: Decoder) -> list[bytes]:
        decoder.may_go_on.set()
        return [
            await reading(readers, decoder, b"a", pixels=100 * MEGA, who=Asked("a", time.monotonic() + 1.5))
            for _ in range(5)
        ]

    assert run(what) == [b"a"] * 5


def test_image_behind_others_that_would_be_decoded_too_late_is_refused_at_once() -> None:
    async def what(readers: Readers, decoder: Decoder) -> tuple[int, str, float | None]:
        ahead = [reading(readers, decoder, b"a", pixels=250 * MEGA) for _ in range(2)]
        await settled()
        with pytest.raises(Refusal) as refused:
            await reading(readers, decoder, b"b", pixels=300 * MEGA)
        decoder.may_go_on.set()
        await asyncio.gather(*ahead)
        return refused.value.status, refused.value.code, refused.value.retry_after

    assert run(what) == (503, "busy", 3)


@pytest.mark.parametrize("why", ["gone", "late"])
def test_image_that_nobody_waits_for_is_not_decoded(why: str) -> None:
    async def what(readers: Readers, decoder: Decoder) -> list[bytes]:
        ahead = [reading(readers, decoder, b"a") for _ in range(2)]
        await settled()
        who = Asked("a", time.monotonic() + (0.1 if why == "late" else 5))
        waiting = reading(readers, decoder, b"b", who=who)
        await settled()
        who.is_gone = why == "gone"
        await asyncio.sleep(0.15 if why == "late" else 0)
        decoder.may_go_on.set()
        with pytest.raises(Refusal):
            await waiting
        await asyncio.gather(*ahead)
        return decoder.read_files

    assert run(what) == [b"a", b"a"]


def test_image_of_more_than_all_the_memory_is_refused_for_good() -> None:
    async def what(readers: Readers, decoder: Decoder) -> tuple[int, str]:
        with pytest.raises(Refusal) as refused:
            await reading(readers, decoder, b"a", room=101)
        decoder.may_go_on.set()
        await reading(readers, decoder, b"a", room=100)
        return refused.value.status, refused.value.code

    assert run(what) == (413, "too_many_pixels")
