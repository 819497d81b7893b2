"""Posts an alarm as JSON. The address may hold a secret, so no message repeats it."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any

from danlu.base import log
from danlu.monitoring.alarms import Event

SECONDS = 5.0
TRIES = 3
PAUSE = 0.5
AGAIN = (408, 429)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A post that is sent elsewhere would arrive as a question without a body."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def post(address: str, event: Event) -> bool:
    """Whether it arrived, after up to 3 tries. `text` is what chat programs show."""
    body = json.dumps(event.to_json(), ensure_ascii=False).encode()
    request = urllib.request.Request(  # noqa: S310 (http or https: checked where it is set)
        address, body, {"Content-Type": "application/json"}, method="POST"
    )
    problem = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2**attempt)
        try:
            with _OPENER.open(request, timeout=SECONDS):
                return True
        except urllib.error.HTTPError as error:
            problem = f"status {error.code}"
            if error.code < 500 and error.code not in AGAIN:
                break
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = type(error).__name__
    log.warn(f"the webhook took no alarm: {problem}")
    return False
