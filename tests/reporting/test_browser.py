"""The pages in a real browser: every glyph is there, nothing is fetched or complained of, and a phone shows them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import danlu
from browsing import CHROMIUM, chromium, opened
from pictures import write_pictures, write_reviews

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

QUICK = {"training.epochs": 3, "training.threads": 1}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Each kind of page, with Chinese names in all of them."""
    home = tmp_path_factory.mktemp("页")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_CACHE", str(home / ".cache"))
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        pictures = write_pictures(home / "照片")
        shutil.copy(pictures / "红" / "000.jpg", pictures / "blue" / "红的.jpg")
        reviews = write_reviews(home / "评论.csv")
        runs = [danlu.train(pictures, QUICK, name=name) for name in ("第一次", "第二次")]
        texts = danlu.train(reviews, QUICK, name="文本")
        for run in (*runs, texts):
            danlu.evaluate(run)
        cold = danlu.train(pictures, {**QUICK, "training.learning_rate": 1e-9}, name="太慢")
        danlu.diagnose(cold)
        danlu.diagnose(runs[0])
        yield {
            "diagnosis": cold.diagnosis_file,
            "report of pictures": danlu.report(runs[0]),
            "report of texts": danlu.report(texts),
            "inspection of pictures": danlu.inspect(pictures).page,
            "inspection of texts": danlu.inspect(reviews).page,
            "comparison": danlu.compare(runs).page,
        }


def test_pages_show_every_glyph(browser: Any, pages: dict[str, Path]) -> None:
    if opened(browser).missing_glyphs("红"):
        pytest.skip("the machine has no font with Chinese signs, which pages leave to their reader")
    for name, path in pages.items():
        assert opened(browser).open(path).missing_glyphs() == [], name


def test_pages_fetch_nothing_and_complain_of_nothing(browser: Any, pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        shown = opened(browser).open(path)
        assert shown.outside_requests == [], name
        assert shown.complaints == [], name
        broken = "[...document.images].filter((image) => !image.naturalWidth).length"
        assert shown.page.evaluate(broken) == 0, name
        assert shown.page.evaluate("document.querySelectorAll('svg').length") > 0, name
        shown.page.close()


def test_pages_fit_a_phone(browser: Any, pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        shown = opened(browser, width=360).open(path)
        shown.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert not shown.is_wider_than_the_window(), name
        shown.page.close()


def test_chinese_labels_in_charts_are_text(browser: Any, pages: dict[str, Path]) -> None:
    shown = opened(browser).open(pages["report of pictures"])
    texts = shown.page.evaluate("[...document.querySelectorAll('svg text')].map((text) => text.textContent.trim())")
    assert texts.count("红") >= 2


def test_missing_glyph_would_be_seen(browser: Any, pages: dict[str, Path]) -> None:
    shown = opened(browser).open(pages["comparison"])
    assert shown.missing_glyphs("\U000e5678") == ["\U000e5678"]


HOSTILE = '<img src=x onerror="document.title=1">$x^2$\u202e&amp;'


def test_hostile_labels_and_texts_are_inert(browser: Any, tmp_path: Path) -> None:
    table = tmp_path / "r.csv"
    rows = [
        f'"{HOSTILE.replace(chr(34), chr(34) * 2)}{i}","{label}"' for i in range(30) for label in ("a<b>", "</script>")
    ]
    table.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    run = danlu.train(table, {**QUICK, "data.gate": "off"})
    danlu.evaluate(run)
    for path in (danlu.report(run), danlu.inspect(table).page):
        shown = opened(browser).open(path)
        assert shown.page.title() != "1"
        assert shown.outside_requests == []
        assert shown.complaints == []
        assert "\u202e" not in shown.page.evaluate("document.documentElement.textContent")
        assert "<img src=x" in shown.page.evaluate("document.documentElement.textContent")
        shown.page.close()
