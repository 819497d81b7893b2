"""Accepts connections of a socket that several workers share, one at a time, and no more than are wanted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from danlu.base import log

_BODY = b'{"error":{"code":"busy","message":"too many connections"}}\n'
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)
PAUSE = 0.1


class Listener:
    """asyncio accepts all that wait at one wake-up, which gives one worker every connection of a burst. This takes one
    each time, so that workers with less to do take more. Beyond `most` connections a 503 is the answer."""

    def __init__(
        self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], is_full: Callable[[], bool]
    ) -> None:
        self._listening, self._protocol, self._is_full = listening, protocol, is_full
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[object]] = set()
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Take what is connected already, then listen no more."""
        self._loop.remove_reader(self._listening)
        while self._accept():
            pass
        self._listening.close()

    async def wait_closed(self) -> None:
        """Until every connection that was taken has its protocol."""
        while self._starting:
            await asyncio.wait(self._starting)

    def _accept(self) -> bool:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:  # no descriptor is left: those who wait, wait
            log.warn(f"a connection could not be taken: {error.strerror}")
            self._loop.remove_reader(self._listening)
            self._loop.call_later(PAUSE, self._again)
            return False
        connection.setblocking(False)
        if self._is_full():
            _refuse(connection)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task: asyncio.Task[object] = self._loop.create_task(
                self._loop.connect_accepted_socket(self._protocol, connection)
            )
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        return True

    def _again(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)


def _refuse(connection: socket.socket) -> None:
    with connection:
        try:
            connection.send(FULL)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # gone already
            return
