"""Lines of a journal, as plain as they can be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def json_lines(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    return [json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows]
