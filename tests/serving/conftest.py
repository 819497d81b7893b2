"""Bundles that are made once for all tests of the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import made
from server import Server


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="session")
def images(home: Path) -> Path:
    """A bundle that reads pictures of 16 × 16 in three colours."""
    return made(home, "images", **{"model.name": "mlp", "data.image_size": 16})


@pytest.fixture(scope="session")
def texts(home: Path) -> Path:
    return made(home, "texts", **{"model.name": "ngrams"})


@pytest.fixture(scope="module")
def server(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server([images], tmp_path_factory.mktemp("server"), "--workers", 1) as found:
        yield found


@pytest.fixture(scope="module")
def text_server(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server([texts], tmp_path_factory.mktemp("server"), "--workers", 1) as found:
        yield found
