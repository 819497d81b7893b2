"""Every model in every format: what is exported answers as the trained model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import danlu
from danlu.base.bundle import open_bundle
from danlu.exporting import FORMATS, VARIANTS
from danlu.models import MODELS
from danlu.prediction.predictor import load_bundle
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 1, "training.threads": 1}
OTHER_WAYS = {
    "file": {"base64", "list of pixels", "Pillow image", "on its side, with EXIF", "with an alpha channel"},
    "text": {"cut to 1", "cut to 2", "cut to 3", "longer than is read"},
}
RUNS: dict[str, danlu.Run] = {}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    write_pictures(home / "images", size=32)
    write_reviews(home / "texts.csv", 90)
    return home


def trained(home: Path, model: str) -> danlu.Run:
    """A run of this model, trained once for all formats."""
    if model not in RUNS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DANLU_RUNS", str(home / "runs"))
            data = home / ("images" if "images" in MODELS.members[model].kinds else "texts.csv")
            RUNS[model] = danlu.train(data, {**QUICK, "model.name": model}, name=model)
    return danlu.Run(RUNS[model].folder.resolve())


@pytest.mark.parametrize("format", FORMATS.names())
@pytest.mark.parametrize("model", MODELS.names())
def test_export_answers_as_the_run(home: Path, model: str, format: str) -> None:
    run = trained(home, model)
    folder = danlu.export(run, format, max_drop=0.2 if VARIANTS.get(format) else None)
    parity = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    ways = {way["way"]: way for way in parity["ways"]}
    sent = "file" if MODELS.members[model].kinds == ("images",) else "text"
    assert set(ways) == {f"{sent}, {size} at a time" for size in (1, 7, 64)} | OTHER_WAYS[sent]
    assert all(way["same_labels"] == way["examples"] and way["largest_gap"] < 1e-4 for way in ways.values())
    if format not in VARIANTS:
        assert folder == run.exports_folder / format
        return
    bundle = open_bundle(folder)
    bundle.verify()
    assert set(bundle.variants) == {"fp32", *VARIANTS[format]}
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(9)]
    items: list[Any] = noise if sent == "file" else ["好吃", "慢" * 90]
    whole = danlu.load(run).predict(items)
    for name in bundle.variants:
        found = load_bundle(bundle, name).predict(items)
        limit = 1e-5 if name == "fp32" else 0.2
        for one, other in zip(whole, found, strict=True):
            assert other.probabilities == pytest.approx(one.probabilities, abs=limit)


@pytest.mark.parametrize("model", MODELS.names("texts"))
@pytest.mark.parametrize("length", [1, 2, 3, 40, 200])
def test_texts_of_any_length_are_answered_alike(home: Path, model: str, length: int) -> None:
    run = trained(home, model)
    folder = run.bundle_folder if run.bundle_folder.exists() else danlu.export(run)
    bundle = load_bundle(open_bundle(folder), "fp32")
    texts = ["好" * length, "太慢，难吃"[:length], *["味" * size for size in range(1, length)]][:20]
    for one, other in zip(danlu.load(run).predict(texts), bundle.predict(texts), strict=True):
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-5)
