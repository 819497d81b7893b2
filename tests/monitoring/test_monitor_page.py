"""The monitor's page of a real service whose pictures became dark, in a real browser."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import made
from PIL import Image
from server import Server
from streams import CLASSES, START, Stream, write_journal

from browsing import CHROMIUM, chromium, opened
from danlu.base.journal import Journal, JournalWriter, keep_reference
from danlu.cli.monitor import ALARM
from danlu.monitoring.monitor import MonitorSettings, monitor
from danlu.reporting import drawing, figures
from journals import json_lines
from pictures import COLORS, write_pictures

SECONDS_EACH = 60.0


def sent(server: Server, count: int, *, gain: float, rng: np.random.Generator) -> None:
    """Pictures as in the data, of `gain` times their brightness."""
    connection = server.connect()
    colors = list(COLORS.values())
    for _ in range(count):
        pixels = np.array(colors[rng.integers(3)]) + rng.integers(-30, 30, size=(16, 16, 3))
        out = io.BytesIO()
        Image.fromarray((np.clip(pixels, 0, 255) * gain).astype(np.uint8)).save(out, "PNG")
        connection.request("POST", "/predict", out.getvalue(), {"Content-Type": "image/png"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
    connection.close()


def slower(journal: Path, folder: Path) -> Path:
    """The same journal as if an answer had been given each minute: a watch looks every ten seconds at most."""
    before = Journal(journal)
    rows = list(before.rows())
    writer = JournalWriter(folder)
    for place, row in enumerate(rows):
        writer.add(json_lines([{**row, "time": rows[-1]["time"] - SECONDS_EACH * (len(rows) - place)}]))
    writer.close()
    for model, reference in before.references().items():
        keep_reference(folder, model, model.partition("@")[2], reference)
    return folder


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("monitored")
    data = write_pictures(home / "pictures", 300)
    bundle = made(home, "cameras", data, **{"model.name": "mlp", "data.image_size": 16})
    rng = np.random.default_rng(5)
    with Server([bundle], home, "--workers", 2) as server:
        sent(server, 900, gain=1.0, rng=rng)
        sent(server, 600, gain=0.25, rng=rng)
    return slower(home / "journal", home / "slower")


def test_dark_pictures_are_drift_and_bright_ones_were_not(journal: Path) -> None:
    (found,) = monitor(journal).models
    (alarm,) = found.alarms
    assert found.state == "drift" and 900 < alarm.start_answers <= 1400
    assert alarm.end is None and ALARM == 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_page_is_readable_and_quiet(journal: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api")
    page = tmp_path / "monitor.html"
    monitor(journal, MonitorSettings(page=page))
    with chromium() as browser:
        found = opened(browser).open(page)
        text = found.page.inner_text("body")
        assert "drift" in text and "红" in text and "× the limit" in text and "1,500 answers" in text
        assert found.page.locator("figure svg:visible").count() == 5
        assert found.complaints == [] and found.outside_requests == []
        assert found.missing_glyphs() == []
        if folder := os.environ.get("DANLU_SCREENSHOTS"):
            found.page.screenshot(path=Path(folder) / "monitor.png", full_page=True)
        found.page.set_viewport_size({"width": 420, "height": 900})
        assert not found.is_wider_than_the_window()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api")
    hostile = "<img src=x onerror=alert(1)>\u202e$x$"
    writer = JournalWriter(tmp_path / "journal")
    for number in range(300):
        row = {"time": 1.7e9 + number, "id": "i", "model": f"{hostile}@1", "class": hostile, "unknown": False}
        writer.add(json_lines([json.loads(json.dumps({**row, "confidence": 0.9, "entropy": 0.1, "ms": 1.0}))]))
    writer.close()
    monitor(tmp_path / "journal", MonitorSettings(page=tmp_path / "m.html"))
    with chromium() as browser:
        found = opened(browser).open(tmp_path / "m.html")
        assert found.page.locator("img").count() == 0
        assert found.complaints == [] and found.outside_requests == []


# Of each text that is shown: its height in the reader's pixels, how far to the right it goes, and itself.
TEXTS = """() => [...document.querySelectorAll("body *")]
  .filter((node) => [...node.childNodes].some((part) => part.nodeType === 3 && part.data.trim()))
  .filter((node) => node.checkVisibility())
  .map((node) => [node, node.ownerSVGElement ? node.getScreenCTM() : {a: 1, b: 0}])
  .map(([node, drawn]) => [
    parseFloat(getComputedStyle(node).fontSize) * Math.hypot(drawn.a, drawn.b),
    node.ownerSVGElement ? node.getBoundingClientRect().right : 0,
    node.textContent.trim()])"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_page_can_be_read_on_a_phone(tmp_path: Path) -> None:
    """Of several versions, with long names of classes, and all that can be opened is."""
    pytest.importorskip("playwright.sync_api")
    stream = Stream(0)
    names = {name: f"{name} 名字很长的一个类别而且还没有写完" for name in CLASSES}
    rows = [
        replace(row, model=f"a-rather-long-name-of-a-model@{number:012x}", label=names[row.label])
        for number in range(6)
        for row in stream.rows(600, start=START + 9000 * number, shift=9.0 * (number % 2))
    ]
    folder, reference = write_journal(tmp_path / "journal", rows), stream.reference().to_json()
    for number in range(6):
        keep_reference(folder, f"a-rather-long-name-of-a-model@{number:012x}", f"{number:012x}", reference)
    monitor(folder, MonitorSettings(page=tmp_path / "m.html"))
    with chromium() as browser:
        for width in (390, 1280):
            found = opened(browser, width).open(tmp_path / "m.html")
            found.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            texts = found.page.evaluate(TEXTS)
            assert [told for told in texts if told[0] < 9] == [] and len(texts) > 100
            assert [told for told in texts if told[1] > width] == [], "no text of a chart is cut off"
            assert found.page.locator("section#m1 figure svg:visible").count() == 5
            assert not found.is_wider_than_the_window()
            assert "Replaced before" in found.page.inner_text("body")


@pytest.mark.parametrize("width", [drawing.NARROW, drawing.WIDE])
def test_charts_of_a_second_and_of_ten_years_have_times_to_read(width: float) -> None:
    seconds = 0.3
    while seconds < 4e8:
        points = [(START + seconds * place / 9, float(place)) for place in range(10)]
        with drawing.style():
            drawn = figures.over_time({"a": points}, "n", width=width)
            drawing.as_svg(drawn, "x")
            shown = [label.get_text() for label in drawn.axes[0].get_xticklabels()]
        assert 2 <= len([text for text in shown if text]) <= 1.7 * width + 2, seconds
        seconds *= 1.4
