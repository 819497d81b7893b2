"""Bundles that are made once for all tests of the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server

import danlu
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 3, "training.threads": 1}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


def made(home: Path, name: str, **settings: object) -> Path:
    data = home / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        patch.setenv("DANLU_CACHE", str(home / "cache"))
        patch.setattr("danlu.exporting.engines.SECONDS", 0.002)
        patch.setattr("danlu.exporting.engines.ROUNDS", 1)
        place = write_reviews(data.with_suffix(".csv"), 90) if name.startswith("texts") else write_pictures(data)
        return danlu.export(danlu.train(place, {**QUICK, **settings}, name=name)).resolve()


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
