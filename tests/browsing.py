"""A page in headless Chromium, and what happened while it was loaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Signs whose drawing equals that of a sign no font has are drawn as the box for missing glyphs.
MISSING_GLYPHS = """(extra) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 48;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.font = "32px " + getComputedStyle(document.body).fontFamily;
  context.textBaseline = "middle";
  const drawn = (sign) => {
    context.clearRect(0, 0, 48, 48);
    context.fillText(sign, 4, 24);
    return context.getImageData(0, 0, 48, 48).data.join();
  };
  const missing = new Set(["\\u{10fffd}", "\\u{e1234}"].map(drawn));
  const text = document.documentElement.textContent + extra;
  return [...new Set(text)].filter((sign) => sign.trim() && missing.has(drawn(sign)));
}"""


class Opened:
    """A page that was loaded, and what happened meanwhile."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: Path) -> Opened:
        self.page.goto(path.resolve().as_uri())
        return self

    @property
    def outside_requests(self) -> list[str]:
        """All but the file itself and the pictures inside it."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]

    def missing_glyphs(self, extra: str = "") -> list[str]:
        found: list[str] = self.page.evaluate(MISSING_GLYPHS, extra)
        return found

    def is_wider_than_the_window(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, width: int = 1200, **options: Any) -> Opened:
    return Opened(browser.new_page(viewport={"width": width, "height": 900}, **options))
