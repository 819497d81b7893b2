"""How connections are taken from a socket that several workers share."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from danlu.serving import listener
from danlu.serving.listener import Listener


class Shared:
    """A listening socket and a listener of it. `taken`: how many connections have a protocol."""

    def __init__(self) -> None:
        self.taken = 0
        self.is_full = False
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.listener = Listener(self.socket, self._protocol, lambda: self.is_full)

    def _protocol(self) -> asyncio.Protocol:
        self.taken += 1
        return asyncio.Protocol()

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.socket.getsockname())


def run(what: Callable[[Shared], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        shared = Shared()
        try:
            return await asyncio.wait_for(what(shared), 5)
        finally:
            if shared.socket.fileno() >= 0:
                shared.listener.close()
                await shared.listener.wait_closed()

    return asyncio.run(whole())


def test_connections_of_a_burst_are_taken_one_at_a_time() -> None:
    """So that other workers have a chance at the rest."""

    async def what(shared: Shared) -> int:
        clients = [socket.create_connection(shared.socket.getsockname()) for _ in range(3)]
        shared.listener._accept()  # as at one wake-up
        taken = len(shared.listener._starting)
        for client in clients:
            client.close()
        return taken

    assert run(what) == 1


def test_who_is_connected_when_the_listener_closes_is_taken() -> None:
    """Nobody else would answer them."""

    async def what(shared: Shared) -> int:
        clients = [socket.create_connection(shared.socket.getsockname()) for _ in range(5)]
        shared.listener.close()
        await shared.listener.wait_closed()
        for client in clients:
            client.close()
        return shared.taken

    assert run(what) == 5


def test_connection_beyond_the_most_is_told_when_to_come_again() -> None:
    async def what(shared: Shared) -> bytes:
        shared.is_full = True
        reader, writer = await shared.connected()
        told = await reader.read()
        writer.close()
        return told

    told = run(what)
    assert told.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: 1\r\n" in told and b'"busy"' in told


def test_service_without_descriptors_goes_on_as_soon_as_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PAUSE", 0.05)

    class Lacking:
        """A socket whose first connection finds no descriptor."""

        def __init__(self, real: socket.socket) -> None:
            self.real, self.failed = real, 0

        def accept(self) -> Any:
            if not self.failed:
                self.failed += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    async def what(shared: Shared) -> int:
        shared.listener._listening = lacking = Lacking(shared.socket)  # type: ignore[assignment]
        _, writer = await shared.connected()
        while not shared.taken:
            await asyncio.sleep(0.01)
        writer.close()
        return lacking.failed

    assert run(what) == 1
