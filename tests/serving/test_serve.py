"""What `serve` chooses for the machine it runs on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from danlu.base.errors import ConfigError
from danlu.serving import serve
from danlu.serving.serve import ServeSettings, _check_address, _most_decoded_bytes, _shares, _suitable_workers

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "workers", "most"), [(32 * GIB, 4, GIB), (8 * GIB, 8, GIB // 4), (GIB, 1, GIB // 4), (0, 8, GIB)]
)
def test_workers_together_take_a_quarter_of_the_memory_for_images(
    monkeypatch: pytest.MonkeyPatch, memory: int, workers: int, most: int
) -> None:
    monkeypatch.setattr(serve, "most_memory_bytes", lambda: memory)
    assert _most_decoded_bytes(workers) == most


@pytest.mark.parametrize(("milliseconds", "workers"), [(4.0, 6), (6.0, 1), (None, 6)])
def test_slow_model_has_all_cores_for_one_worker(
    monkeypatch: pytest.MonkeyPatch, milliseconds: float | None, workers: int
) -> None:
    monkeypatch.setattr(serve, "available_cores", lambda: 6)
    rows = [
        {"variant": "fp32", "threads": 1, "p50_ms": milliseconds},
        {"variant": "fp32", "threads": 6, "p50_ms": 1.0},
        {"variant": "int8", "threads": 1, "p50_ms": 1.0},
    ]
    content = {"default": "fp32", "files": {serve.ENGINES: {}} if milliseconds is not None else {}}
    bundle: Any = SimpleNamespace(content=content, read_json=lambda name: {"ways": rows})
    assert _suitable_workers(bundle) == workers


def test_shares_add_up_to_one() -> None:
    assert _shares(2, (90, 10)) == pytest.approx([0.9, 0.1])
    assert _shares(4, ()) == [0.25] * 4


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_address_of_this_machine_needs_no_key(host: str) -> None:
    _check_address(ServeSettings(host=host), None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", ""])
def test_address_that_others_reach_needs_a_key_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match="can be reached by others"):
        _check_address(ServeSettings(host=host), None)
    _check_address(ServeSettings(host=host), "a-key-of-some-length")
    _check_address(ServeSettings(host=host, insecure=True), None)


def test_workers_share_connections_and_cores(monkeypatch: pytest.MonkeyPatch, images: Path) -> None:
    told: list[dict[str, Any]] = []

    class Supervisor:
        def __init__(self, listening: object, count: int, orders: dict[str, Any], when_ready: object) -> None:
            told.append({**orders, "count": count})

        def run(self) -> int:
            return 0

    monkeypatch.setattr("danlu.serving.supervisor.Supervisor", Supervisor)
    monkeypatch.setattr(serve, "available_cores", lambda: 8)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    settings = ServeSettings(port=0, workers=4, most_connections=1000, journal=None)
    assert serve.serve([images], settings) == 0
    (orders,) = told
    assert (orders["count"], orders["workers"], orders["threads"], orders["most_connections"]) == (4, 4, 2, 250)
