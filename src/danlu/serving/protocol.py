"""uvicorn's HTTP protocol with an end to every wait for a client, answers that are written whole, and a drain that
resets nobody."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
BODY_SECONDS = 30.0
READING_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 5
LAST_SECONDS = 1.0
HEADER_BYTES = 32 * 2**10


class JoinedWrites:
    """A transport that writes at once what one turn of the loop gives it.

    uvicorn writes the head of an answer and its body by two calls. A process that is killed between them leaves half an
    answer, which a proxy has begun to pass on and can no longer ask for elsewhere.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class PatientProtocol(HttpToolsProtocol):
    """A connection that is closed where its client takes too long: 10 s for a header of at most 32 KiB, 30 s for a
    body, 30 s to take the answer, and 5 s between requests, which is uvicorn's own clock.

    While it drains it answers what comes with `Connection: close`, and leaves an idle connection a second: a request on
    its way at the moment of closing would be lost.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._clock: asyncio.TimerHandle | None = None
        self._clock_of = ""
        self._reading: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._part = "header"  # what is read of a request: its header, its body or, between requests, nothing
        self._is_draining = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = JoinedWrites(transport, self.loop)  # type: ignore[assignment]
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._part = ""
        self._start_clock()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._header_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._part != self._clock_of:
            self._start_clock()
        if self._part == "header" and self._header_bytes > HEADER_BYTES:
            self.send_400_response("The header is too large.")

    def on_message_begin(self) -> None:
        self._part = "header"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._part, self._header_bytes = "body", 0
        super().on_headers_complete()
        if self._is_draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._part, self._header_bytes = "", 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        super().resume_writing()

    def shutdown(self) -> None:
        """Answer what is asked already, and close afterwards."""
        self._is_draining = True
        if self._is_idle():
            self.loop.call_later(LAST_SECONDS, self._close_idle)
        else:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self._part)

    def _close_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _start_clock(self) -> None:
        """The time for what is read now; none where a whole request has come."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        self._clock_of = self._part
        if self._part:
            seconds = HEADER_SECONDS if self._part == "header" else BODY_SECONDS
            self._clock = self.loop.call_later(seconds, self.transport.abort)
