"""Reports of three real data sets in a real browser, with screenshots to look at.

`DANLU_PHOTOS=FOLDER DANLU_REVIEWS=FILE DANLU_SCREENSHOTS=FOLDER pytest -m slow tests/reporting`: a folder with `train/`
and `test/`, a table with the columns `label` and `review`; Fashion-MNIST is taken by name. Classes get Chinese names.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import danlu
from browsing import CHROMIUM, chromium, opened

PHOTOS, REVIEWS = os.environ.get("DANLU_PHOTOS", ""), os.environ.get("DANLU_REVIEWS", "")
SCREENSHOTS = os.environ.get("DANLU_SCREENSHOTS", "")
pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def photos(folder: Path) -> Path:
    """The photos with Chinese names of classes."""
    if not PHOTOS:
        pytest.skip("`DANLU_PHOTOS` names no folder")
    shutil.copytree(PHOTOS, folder / "照片")
    names = sorted(path.name for path in (folder / "照片" / "train").iterdir())
    for part in ("train", "test"):
        for number, name in enumerate(names):
            (folder / "照片" / part / name).rename(
                folder / "照片" / part / f"{'甲乙丙丁戊己庚辛壬癸'[number % 10]}类 {name}"
            )
    return folder / "照片"


def reviews(folder: Path) -> Path:
    """The reviews with Chinese labels."""
    if not REVIEWS:
        pytest.skip("`DANLU_REVIEWS` names no table")
    with open(REVIEWS, encoding="utf-8-sig", newline="") as file:
        rows = [({"1": "好评", "0": "差评"}[row["label"]], row["review"]) for row in csv.DictReader(file)]
    with open(folder / "评论.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("标签", "评论"), *rows])
    return folder / "评论.csv"


def fashion(folder: Path) -> str:
    return "fashion-mnist"


@pytest.mark.parametrize("make", [fashion, reviews, photos], ids=lambda make: make.__name__)
def test_report_of_real_data_shows_every_glyph_fetches_nothing_and_complains_of_nothing(
    browser: Any, tmp_path: Path, make: Any
) -> None:
    data = make(tmp_path)
    model = {"fashion": "fast_cnn", "reviews": "ngrams", "photos": "fast_cnn"}[make.__name__]
    run = danlu.train(data, {"model.name": model, "training.epochs": 3})
    evaluation = danlu.evaluate(run)
    page = danlu.report(run)
    megabytes = page.stat().st_size / 1e6
    print(f"\n{make.__name__}: {evaluation.accuracy:.2%} of {evaluation.examples:,}, {megabytes:.2f} MB")
    for name, path in (("report", page), ("inspection", danlu.inspect(data).page)):
        shown = opened(browser).open(path)
        assert shown.missing_glyphs() == []
        assert shown.outside_requests == []
        assert shown.complaints == []
        if SCREENSHOTS:
            shown.page.screenshot(path=Path(SCREENSHOTS) / f"{make.__name__}-{name}.png", full_page=True)
        shown.page.close()
    assert megabytes <= 3
