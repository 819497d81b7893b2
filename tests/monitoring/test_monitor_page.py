"""The monitor's page of a real service whose pictures became dark, in a real browser."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from bundles import made
from PIL import Image
from server import Server

from browsing import CHROMIUM, chromium, opened
from danlu.base.journal import Journal, JournalWriter, keep_reference
from danlu.cli.monitor import ALARM
from danlu.monitoring.monitor import MonitorSettings, monitor
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
        assert found.page.locator("figure svg").count() == 5
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
