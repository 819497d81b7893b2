"""Posts an alarm as JSON. The address may hold a secret, so no message repeats it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

from danlu.base import log
from danlu.monitoring.alarms import Event

SECONDS = 5.0
TRIES = 3
PAUSE = 0.5


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
            with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            problem = f"status {error.code}"
            if error.code < 500:
                break
        except (OSError, ValueError) as error:
            problem = type(error).__name__
    log.warn(f"the webhook took no alarm: {problem}")
    return False
