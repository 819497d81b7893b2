"""Connections whose clients are slow, and connections while the service drains: in one process, with short clocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from danlu.serving import protocol
from danlu.serving.protocol import PatientProtocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 64 * 2**20
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Service:
    """Answers with the number of bytes that a body has, or with many at `/large`; it waits for `may_answer` first.
    `connections`: those that are open."""

    def __init__(self) -> None:
        self.connections: set[PatientProtocol] = set()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, is_more = 0, True
        while is_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, is_more = size + len(message["body"]), message["more_body"]
        await self.may_answer.wait()
        body = bytes(LARGE) if scope["path"] == "/large" else b"%d" % size
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @asynccontextmanager
    async def served(self) -> AsyncIterator[int]:
        config = uvicorn.Config(self, http=PatientProtocol, lifespan="off", log_config=None, access_log=False)
        config.load()
        state = uvicorn.Server(config).server_state
        state.connections = self.connections  # type: ignore[assignment]
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: PatientProtocol(config, state, {}, loop), "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for connection in list(self.connections):
                connection.transport.abort()
            await asyncio.sleep(0)


def run(what: Callable[[Service, Reader, Writer], Awaitable[Any]]) -> Any:
    """What a client of one connection finds."""

    async def whole() -> Any:
        service = Service()
        async with service.served() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
            try:
                return await asyncio.wait_for(what(service, reader, writer), 5)
            finally:
                writer.transport.abort()

    return asyncio.run(whole())


async def answer(reader: Reader) -> tuple[bytes, bytes]:
    """The head and the body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def ended(reader: Reader) -> bool:
    """Waits until the other side closes; whether nothing came before."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def test_body_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.2)

    async def what(service: Service, reader: Reader, writer: Writer) -> bool:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123")
        return await ended(reader)

    assert run(what)


def test_body_that_comes_in_time_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock is not that of the header."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.2)

    async def what(service: Service, reader: Reader, writer: Writer) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123")
        await asyncio.sleep(0.4)
        writer.write(b"4567890")
        return (await answer(reader))[1]

    assert run(what) == b"10"


def test_header_that_comes_byte_by_byte_gets_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)

    async def what(service: Service, reader: Reader, writer: Writer) -> bool:
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        closing = asyncio.ensure_future(ended(reader))
        for _ in range(20):
            writer.write(b"a")
            await asyncio.sleep(0.1)
            if closing.done():
                return closing.result()
        return False

    assert run(what)


def test_answer_that_nobody_takes_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READING_SECONDS", 0.3)

    async def what(service: Service, reader: Reader, writer: Writer) -> None:
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        while not service.connections:
            await asyncio.sleep(0.01)
        while service.connections:
            await asyncio.sleep(0.01)

    run(what)


def test_computing_takes_no_time_from_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole request has come: the clocks for what is read are off."""
    for name in ("HEADER_SECONDS", "BODY_SECONDS"):
        monkeypatch.setattr(protocol, name, 0.1)

    async def what(service: Service, reader: Reader, writer: Writer) -> bytes:
        service.may_answer.clear()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n123")
        await asyncio.sleep(0.3)
        service.may_answer.set()
        return (await answer(reader))[1]

    assert run(what) == b"3"


def test_bytes_of_a_body_are_none_of_the_next_header() -> None:
    async def what(service: Service, reader: Reader, writer: Writer) -> list[bytes]:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(bytes(50_000))
        first = (await answer(reader))[1]
        writer.write(GET[:10])
        await asyncio.sleep(0.05)
        writer.write(GET[10:])
        return [first, (await answer(reader))[1]]

    assert run(what) == [b"50000", b"0"]


# While it drains


async def used(service: Service, reader: Reader, writer: Writer) -> PatientProtocol:
    """The connection, after one answer."""
    writer.write(GET)
    head, _ = await answer(reader)
    assert b"connection: close" not in head
    (connection,) = service.connections
    return connection


def test_request_on_its_way_when_draining_begins_is_answered_and_is_the_last() -> None:
    async def what(service: Service, reader: Reader, writer: Writer) -> tuple[bool, bool]:
        (await used(service, reader, writer)).shutdown()
        await asyncio.sleep(0.05)
        writer.write(GET)
        head, _ = await answer(reader)
        return b"connection: close" in head, await ended(reader)

    assert run(what) == (True, True)


def test_request_that_is_computed_when_draining_begins_is_answered_and_is_the_last() -> None:
    async def what(service: Service, reader: Reader, writer: Writer) -> tuple[bool, bool]:
        connection = await used(service, reader, writer)
        service.may_answer.clear()
        writer.write(GET)
        await asyncio.sleep(0.05)
        connection.shutdown()
        service.may_answer.set()
        head, _ = await answer(reader)
        return b"connection: close" in head, await ended(reader)

    assert run(what) == (True, True)


def test_request_that_is_half_there_when_draining_begins_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LAST_SECONDS", 0.1)

    async def what(service: Service, reader: Reader, writer: Writer) -> bytes:
        connection = await used(service, reader, writer)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n1")
        await asyncio.sleep(0.05)
        connection.shutdown()
        await asyncio.sleep(0.3)
        writer.write(b"23")
        return (await answer(reader))[1]

    assert run(what) == b"3"


def test_connection_that_asks_nothing_more_is_closed_while_it_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LAST_SECONDS", 0.1)

    async def what(service: Service, reader: Reader, writer: Writer) -> bool:
        (await used(service, reader, writer)).shutdown()
        return await ended(reader)

    assert run(what)
