"""A bundle for the replicas."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundles import made


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that reads pictures of 16 × 16 in three colours."""
    return made(tmp_path_factory.mktemp("deploy"), "images", **{"model.name": "mlp", "data.image_size": 16})
