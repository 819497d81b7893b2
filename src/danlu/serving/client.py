"""Ask a service from Python, with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from danlu.base.errors import ConfigError, DanluError, DataError, MachineError

RETRIES = 4
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
AGAIN = (502, 503, 504)
MOST_ITEMS = 256  # in a request
MOST_BYTES = 2**19  # of JSON, and of files together, so that an answer comes soon; a file may be larger
FILE = b'Content-Disposition: form-data; name="files"; filename="%d"\r\nContent-Type: application/octet-stream'


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

    def predict_batch(self, items: Sequence[Any], *, key: str | None = None) -> list[dict[str, Any]]:
        """The answers to several inputs as `predict` takes them, all of one kind, in their order; one that cannot be
        read has `error` with a `code` and a `message` in place of its answer.

        They are asked for in as many requests as they need. Raises as `predict` does.

        >>> client.predict_batch(["很快，好吃", "太慢了"])      # doctest: +SKIP
        [{'class': '1', …}, {'class': '0', …}]
        """
        found: list[dict[str, Any]] = []
        for body, kind in _batches([self._body(item) for item in items]):
            found += self._ask("POST", "/predict/batch", body, kind, {"X-Sticky-Key": key} if key else {})["answers"]
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


def _batches(bodies: Sequence[tuple[bytes, str]]) -> Iterator[tuple[bytes, str]]:
    """Bodies of single requests as bodies of as few requests as hold them. Raises `ConfigError` for a mixture."""
    kinds = {kind if kind != "application/json" else body[:3] for body, kind in bodies}
    if len(kinds) > 1:
        raise ConfigError("a batch has inputs of one kind: all files, all pixels or all texts")
    group: list[bytes] = []
    for body, kind in bodies:
        if group and (len(group) == MOST_ITEMS or sum(map(len, group)) + len(body) > MOST_BYTES):
            yield _joined(group, kind)
            group = []
        group.append(body)
    if group:
        yield _joined(group, bodies[0][1])


def _joined(group: Sequence[bytes], kind: str) -> tuple[bytes, str]:
    if kind == "application/json":
        ((field, _),) = json.loads(group[0]).items()
        values = [json.loads(body)[field] for body in group]
        return json.dumps({field if field == "pixels" else f"{field}s": values}).encode(), kind
    edge = os.urandom(16).hex().encode()
    parts = [b"--%s\r\n%s\r\n\r\n%s\r\n" % (edge, FILE % place, body) for place, body in enumerate(group)]
    return b"".join([*parts, b"--%s--\r\n" % edge]), f"multipart/form-data; boundary={edge.decode()}"


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
