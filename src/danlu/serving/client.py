"""Ask a service from Python, with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from danlu.base.errors import ConfigError, DanluError, DataError, MachineError

RETRIES = 4
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
AGAIN = (502, 503, 504)


class Client:
    """A connection to `danlu serve`, to be used by one thread.

    What is busy or cannot be reached is asked again, up to `retries` times, after what `Retry-After` says or a pause
    that doubles; an answer depends on nothing but the question, so asking twice does no harm.

    >>> client = Client("http://127.0.0.1:8000")         # doctest: +SKIP
    >>> client.predict("a.jpg")["class"]                 # doctest: +SKIP
    'cat'
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 30.0, retries: int = RETRIES) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"`{url}` is not an address of a service", hint="such as http://127.0.0.1:8000")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._url, self._path, self._retries = url, parts.path.rstrip("/"), retries
        self._headers = {"X-API-Key": api_key} if api_key is not None else {}

    def predict(self, item: str | Path | bytes | Sequence[Any], *, key: str | None = None) -> dict[str, Any]:
        """The answer to one input: a path or bytes of an image, rows of pixels, or a text, as the model reads.

        `key` keeps a user at one of two bundles. Raises `DataError` where the input cannot be read, and `MachineError`
        where no answer comes.
        """
        body, kind = self._body(item)
        found: dict[str, Any] = self._ask("POST", "/predict", body, kind, {"X-Sticky-Key": key} if key else {})
        return found

    def info(self) -> dict[str, Any]:
        """What answers there."""
        found: dict[str, Any] = self._ask("GET", "/model/info", None, "", {})
        return found

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _body(self, item: Any) -> tuple[bytes, str]:
        if isinstance(item, (bytes, bytearray)):
            return bytes(item), "application/octet-stream"
        if isinstance(item, Path) or (isinstance(item, str) and self._kind() == "images"):
            try:
                return Path(item).read_bytes(), "application/octet-stream"
            except OSError as error:
                raise DataError(f"`{item}` cannot be read: {error.strerror or error}") from error
        content = {"text": item} if isinstance(item, str) else {"pixels": item}
        return json.dumps(content).encode(), "application/json"

    def _kind(self) -> str:
        if not hasattr(self, "_known_kind"):
            self._known_kind = str(self.info()["models"][0]["kind"])
        return self._known_kind

    def _ask(self, method: str, path: str, body: bytes | None, kind: str, more: Mapping[str, str]) -> Any:
        headers = {**self._headers, **more, **({"Content-Type": kind} if kind else {})}
        told: DanluError = MachineError(f"`{self._url}` was not asked")
        for turn in range(self._retries + 1):
            pause = FIRST_PAUSE * 2**turn * random.uniform(0.5, 1.5)  # noqa: S311 - spreads clients, hides nothing
            try:
                self._connection.request(method, self._path + path, body, headers)
                response = self._connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                told = MachineError(f"`{self._url}` cannot be asked: {error or type(error).__name__}")
            else:
                if response.status == 200:
                    return json.loads(data)
                told = _error(response.status, data)
                if response.status not in AGAIN:
                    raise told
                pause = max(pause, _seconds(response.getheader("Retry-After")))
            if turn < self._retries:
                time.sleep(min(pause, LONGEST_PAUSE))
        raise told


def _error(status: int, data: bytes) -> DanluError:
    try:
        message = str(json.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {status}"
    if status == 401:
        return ConfigError(f"the service refuses: {message}", hint="`Client(url, api_key=…)`")
    if status in (400, 413, 415, 422):
        return DataError(f"the service cannot read the input: {message}")
    return MachineError(f"the service gave no answer: {message}")


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdigit() else 0.0
