"""Bundles to serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import danlu
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 3, "training.threads": 1}


def made(home: Path, name: str, data: Any = None, **settings: object) -> Path:
    """The bundle of a model trained for a moment on invented pictures or texts, on the digits, or on `data`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        patch.setenv("DANLU_CACHE", str(home / "cache"))
        patch.setattr("danlu.exporting.engines.SECONDS", 0.002)
        patch.setattr("danlu.exporting.engines.ROUNDS", 1)
        if data is None and name == "texts":
            data = write_reviews(home / "texts.csv", 90)
        elif data is None:
            data = "digits" if name == "digits" else write_pictures(home / name)
        return danlu.export(danlu.train(data, {**QUICK, **settings}, name=name)).resolve()
