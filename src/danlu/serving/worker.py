"""One process that answers, started by the supervisor with the number of a pipe.

It reads its orders from standard input, beats on the pipe while it is well, reloads at SIGHUP, and drains at SIGTERM or
when nobody hears it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from danlu.base import log
from danlu.base.errors import DanluError
from danlu.serving.app import build
from danlu.serving.deployment import Deployment, Marks, load_arm
from danlu.serving.lane import Limits
from danlu.serving.listener import Listener
from danlu.serving.metrics import Metrics
from danlu.serving.protocol import KEEP_ALIVE_SECONDS, PatientProtocol
from danlu.serving.service import Service

BEATS_A_SECOND = 4
SHORT = 0.02


async def serve(orders: dict[str, Any], pipe: int) -> None:
    """Answer until SIGTERM. Raises `DanluError` where a bundle cannot be served."""
    places = [Path(place) for place, _ in orders["bundles"]] + ([Path(orders["shadow"])] if orders["shadow"] else [])
    marks = Marks(places)  # before they are read: one that is replaced meanwhile is read again
    service = await _service(orders)
    server = _server(service, orders)
    connections = server.server_state.connections
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    reloading: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = loop.create_task(service.reload())
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    def look() -> None:
        if marks.have_changed():
            reload()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    listener = Listener(
        socket.socket(fileno=orders["socket"]),
        lambda: PatientProtocol(server.config, server.server_state, {}, loop),
        lambda: len(connections) >= orders["most_connections"],
    )
    gc.collect()
    gc.freeze()  # what is there now stays, and need not be looked through between requests
    gc.enable()
    living = loop.create_task(_live(service, server, pipe, look, stop.set))
    await stop.wait()
    service.is_draining = True
    await asyncio.sleep(orders["drain_delay"])
    listener.close()
    await listener.wait_closed()
    for connection in list(connections):
        connection.shutdown()
    ends = loop.time() + orders["drain_seconds"]
    while connections and loop.time() < ends:
        await asyncio.sleep(SHORT)
    living.cancel()
    service.close()


async def _service(orders: dict[str, Any]) -> Service:
    limits = Limits(orders["threads"], orders["deadline"], most_decoded_bytes=orders["most_decoded_bytes"])
    arms = [await load_arm(Path(place), share, limits) for place, share in orders["bundles"]]
    shadow = await load_arm(Path(orders["shadow"]), 0.0, limits) if orders["shadow"] else None
    journal = Path(orders["journal"]) if orders["journal"] else None
    return Service(Deployment(arms, limits, shadow), Metrics(), journal)


def _server(service: Service, orders: dict[str, Any]) -> uvicorn.Server:
    """uvicorn's protocol and its state, without its listening and its signals."""
    config = uvicorn.Config(
        build(service, orders["key"], orders["deadline"]),
        http=PatientProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks for a client's address
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    return uvicorn.Server(config)


async def _live(
    service: Service, server: uvicorn.Server, pipe: int, look: Callable[[], object], stop: Callable[[], None]
) -> None:
    """Beat, keep the date, `look` whether a bundle was replaced, and end where the supervisor was killed: nobody would
    replace this worker, and a new supervisor could not have its address."""
    for number in itertools.count():
        if _is_unheard(pipe):
            stop()
        elif service.status != "stuck":
            with contextlib.suppress(BrokenPipeError):
                os.write(pipe, b".")
        service.tell_counters()
        if number % BEATS_A_SECOND == 0:
            await server.on_tick(0)
            look()
        await asyncio.sleep(1 / BEATS_A_SECOND)


def _is_unheard(pipe: int) -> bool:
    """Whether nothing has the other end of the pipe."""
    look = select.poll()
    look.register(pipe, 0)
    return bool(look.poll(0))


def main() -> int:
    orders = json.loads(sys.stdin.buffer.read())
    if orders["workers"] > 1:
        log.name_process(f"worker {os.getpid()}")
    try:
        uvloop.run(serve(orders, int(sys.argv[1])))
    except DanluError as error:
        log.error(error)
        return error.exit_code
    return 0
