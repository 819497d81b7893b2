"""The verb `serve`: bundles → answers over HTTP, until a signal ends it."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.base import log
from danlu.base.bundle import ENGINES, Bundle, is_bundle, open_bundle
from danlu.base.errors import ConfigError, MachineError, ModelError
from danlu.base.extras import require_extra
from danlu.base.machine import available_cores, most_memory_bytes
from danlu.base.runs import find_run

SLOW_MS = 5.0  # one example alone, from which one worker with all threads answers sooner than several
KEY_LENGTH = (8, 256)
DECODED_BYTES = 2**30  # enough for 50 million pixels in any format
DECODED_SHARE = 0.25  # of the memory there is, for the images that all workers decode


@dataclass(frozen=True)
class ServeSettings:
    """How to serve. `workers`: None for as many as suit the model. `split`: shares of the bundles, which add up to 1.
    `deadline`, `drain_delay`, `drain_seconds`: seconds; `journal`: None for none. `most_decoded_bytes`: of memory that
    a worker takes to decode images, all of one moment; None for 1 GiB, or for its part of a quarter of the memory."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int | None = None
    split: tuple[float, ...] = ()
    shadow: str | Path | None = None
    api_key_file: str | Path | None = None
    insecure: bool = False
    journal: str | Path | None = "journal"
    deadline: float = 5.0
    drain_delay: float = 0.5
    drain_seconds: float = 30.0
    most_connections: int = 1000
    most_decoded_bytes: int | None = None


def serve(places: Sequence[str | Path], settings: ServeSettings = ServeSettings()) -> int:
    """Serve bundles, or the bundles of runs, until SIGTERM or SIGINT; the exit code.

    Raises `ConfigError` for settings that cannot be, `ModelError` for bundles that cannot be served, and `MachineError`
    where the address is taken.

    >>> serve(["runs/latest"], ServeSettings(port=8080))     # doctest: +SKIP
    """
    require_extra("serve", "serving")
    from danlu.serving.metrics import FOLDER
    from danlu.serving.supervisor import Supervisor

    bundles = [_bundle(place) for place in places]
    shadow = _bundle(settings.shadow) if settings.shadow is not None else None
    shares = _shares(len(bundles), settings.split)
    _check_alike([*bundles, *([shadow] if shadow else [])])
    key = _read_key(settings)
    _check_address(settings, key)
    workers = settings.workers or _suitable_workers(bundles[0])
    if settings.deadline <= 0 or settings.drain_delay < 0:
        raise ConfigError("the deadline is more than 0 seconds, and the delay before draining no less than 0")
    if workers < 1:
        raise ConfigError(f"at least one worker answers, got {settings.workers}")
    orders = {
        "bundles": [(str(bundle.folder.resolve()), share) for bundle, share in zip(bundles, shares, strict=True)],
        "shadow": str(shadow.folder.resolve()) if shadow else None,
        "workers": workers,
        "threads": max(1, available_cores() // workers),
        "journal": str(Path(settings.journal).resolve()) if settings.journal is not None else None,
        "key": key,
        "deadline": settings.deadline,
        "most_decoded_bytes": settings.most_decoded_bytes or _most_decoded_bytes(workers),
        "drain_delay": settings.drain_delay,
        "drain_seconds": settings.drain_seconds,
        "most_connections": max(1, settings.most_connections // workers),
    }
    with _listening(settings) as listening, _counts_folder() as counts:
        os.environ[FOLDER] = counts
        address = _url(listening)
        return Supervisor(listening, workers, orders, lambda: _greet(address, bundles, workers, settings)).run()


def _bundle(place: str | Path) -> Bundle:
    return open_bundle(place if is_bundle(place) else find_run(place).bundle_folder)


def _shares(count: int, split: tuple[float, ...]) -> list[float]:
    if not count:
        raise ConfigError("no bundle given")
    if not split:
        return [1 / count] * count
    if len(split) != count:
        raise ConfigError(f"{len(split)} shares for {count} bundles", hint="`--split 90/10` with two bundles")
    if min(split) <= 0:
        raise ConfigError("every bundle needs a share above 0", hint="`--shadow` is for one that answers nobody")
    return [share / sum(split) for share in split]


def _check_alike(bundles: Sequence[Bundle]) -> None:
    first = bundles[0]
    for other in bundles[1:]:
        if (other.kind, other.classes) != (first.kind, first.classes):
            raise ModelError(f"`{other}` has other classes, or reads something else, than `{first}`")


def _read_key(settings: ServeSettings) -> str | None:
    if settings.api_key_file is None:
        return None
    try:
        key = Path(settings.api_key_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file of the API key cannot be read: {error}") from error
    hint = "`openssl rand -hex 16 > FILE` makes one"
    if not KEY_LENGTH[0] <= len(key) <= KEY_LENGTH[1]:
        told = f"an API key has {KEY_LENGTH[0]} to {KEY_LENGTH[1]} printable ASCII signs, this one has {len(key)}"
        raise ConfigError(told, hint=hint)
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("an API key has 8 to 256 printable ASCII signs, and this one has others", hint=hint)
    return key


def _check_address(settings: ServeSettings, key: str | None) -> None:
    if not (_is_loopback(settings.host) or key is not None or settings.insecure):
        raise ConfigError(
            f"`{settings.host}` can be reached by others, and nobody needs a key",
            hint="`--api-key-file FILE`, or `--insecure` where something before it asks for one",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _suitable_workers(bundle: Bundle) -> int:
    """One for each core, or one alone with all of them for a model that takes long for an example."""
    rows: list[dict[str, Any]] = bundle.read_json(ENGINES)["ways"] if ENGINES in bundle.content["files"] else []
    default = bundle.content["default"]
    alone = [row["p50_ms"] for row in rows if row.get("variant") == default and row.get("threads") == 1]
    return 1 if alone and min(alone) > SLOW_MS else available_cores()


def _most_decoded_bytes(workers: int) -> int:
    """For decoding images, a worker."""
    memory = most_memory_bytes()
    return min(DECODED_BYTES, int(DECODED_SHARE * memory / workers)) if memory else DECODED_BYTES


def _listening(settings: ServeSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise MachineError(
            f"{settings.host}:{settings.port} cannot be listened on: {getattr(error, 'strerror', None) or error}",
            hint="`--port 0` takes a free one",
        ) from error
    return listening


def _counts_folder() -> tempfile.TemporaryDirectory[str]:
    """For the counters, which are files in memory: on a disk, a request now and then waits for it to be written."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 (a fresh folder of our own)
    return tempfile.TemporaryDirectory(prefix="danlu-metrics-", dir=memory)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greet(address: str, bundles: Sequence[Bundle], workers: int, settings: ServeSettings) -> None:
    bundle = bundles[0]
    key = f' -H "X-API-Key: $(cat {settings.api_key_file})"' if settings.api_key_file is not None else ""
    shares = _shares(len(bundles), settings.split)
    told = [
        f"{one} ({share:.0%})" if len(bundles) > 1 else str(one) for one, share in zip(bundles, shares, strict=True)
    ]
    shadow = f", in its shadow {settings.shadow}" if settings.shadow is not None else ""
    log.say(f"{', '.join(told)}{shadow}: {len(bundle.classes)} classes, {workers} worker{'s' * (workers > 1)}")
    if bundle.kind == "images":
        log.say(f"  curl{key} -F file=@a.jpg {address}/predict")
        log.say(f"  curl{key} --data-binary @a.jpg -H 'Content-Type: image/jpeg' {address}/predict")
    else:
        log.say(f'  curl{key} --json \'{{"text": "很快，好吃"}}\' {address}/predict')
    room = settings.most_decoded_bytes or _most_decoded_bytes(workers)
    if bundle.kind == "images" and room < DECODED_BYTES:
        log.say(f"  an image may take {room / 2**20:,.0f} MiB of memory to be decoded")
    asks = "; a browser asks for a name, which may be any, and for the key as password" if key else ""
    log.say(f"  {address}/ to try it, {address}/docs for all routes{asks}")
    if settings.journal is not None:
        log.say(f"  journal: {settings.journal} (no inputs are kept); `danlu monitor {settings.journal}` reads it")
    log.say(f"serving on {address} until Ctrl-C or SIGTERM")
