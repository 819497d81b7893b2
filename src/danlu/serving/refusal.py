"""Why a request gets no answer."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A status, a word a program can compare, and a sentence that repeats nothing of the request.

    >>> Refusal(413, "too_large", "the body is larger than 10 MiB").status
    413
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def to_json(self) -> dict[str, Any]:
        """As it stands among the answers of a batch."""
        return {"error": {"code": self.code, "message": self.message}}
