"""The page of a service in a real browser: images, drawings and texts, by mouse and by keyboard, in two languages."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import made
from server import Server
from test_answers import picture

from browsing import CHROMIUM, Opened, chromium, opened
from danlu.serving import app
from danlu.serving.service import Service

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def digits(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = made(home, "digits", **{"model.name": "mlp", "training.epochs": 10})
    with Server([bundle], tmp_path_factory.mktemp("digits"), "--workers", 1) as found:
        yield found


def visit(browser: Any, server: Server, path: str = "/", **options: Any) -> Opened:
    found = opened(browser, **options)
    found.page.goto(f"http://{server.host}:{server.port}{path}")
    return found


def said(found: Opened) -> str:
    found.page.wait_for_selector("#said:visible")
    return str(found.page.inner_text("#said"))


def keep(found: Opened, name: str) -> None:
    """A screenshot for people to look at, where a folder for them is named."""
    if folder := os.environ.get("DANLU_SCREENSHOTS"):
        found.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def check_quiet(found: Opened, server: Server) -> None:
    assert found.complaints == []
    home = f"http://{server.host}:{server.port}/"
    assert [url for url in found.requests if not url.startswith((home, "data:", "blob:"))] == []
    assert not found.is_wider_than_the_window()


def test_image_that_is_chosen_is_answered(browser: Any, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    found = visit(browser, server)
    found.page.wait_for_selector("#images:visible")
    found.page.set_input_files("#file", tmp_path / "a.png")
    assert said(found) == "红"
    assert found.page.locator("#bars li").count() == 3
    assert found.page.locator("#preview").is_visible()
    keep(found, "image")
    check_quiet(found, server)
    found.page.set_input_files("#file", {"name": "b.png", "mimeType": "image/png", "buffer": b"no image"})
    found.page.wait_for_selector("#problem:visible")
    assert "is not an image" in found.page.inner_text("#problem")


def test_digit_is_drawn_with_the_mouse_and_by_the_keyboard(browser: Any, digits: Server) -> None:
    found = visit(browser, digits)
    found.page.wait_for_selector("#drawing:visible")
    box = found.page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"]
    found.page.mouse.move(x, y + 40)
    found.page.mouse.down()
    found.page.mouse.move(x, y + 240, steps=12)
    found.page.mouse.up()
    assert said(found) == "1"
    keep(found, "digit")
    found.page.click("#clear")
    found.page.focus("#canvas")
    for _ in range(12):
        found.page.keyboard.press("Shift+ArrowDown")
    found.page.keyboard.press("Enter")
    found.page.wait_for_function("document.querySelector('#facts').textContent.length > 0")
    assert said(found) in "0123456789"
    check_quiet(found, digits)


def test_text_is_asked_in_chinese_on_a_phone(browser: Any, text_server: Server) -> None:
    found = visit(browser, text_server, width=380)
    found.page.click("[data-language=zh]")
    assert found.page.inner_text("#ask-title") == "提问"
    found.page.fill("#text", "味道足，非常快，很好吃")
    found.page.keyboard.press("Control+Enter")
    assert said(found) == "1"
    keep(found, "text")
    assert found.missing_glyphs() == []
    check_quiet(found, text_server)


def test_hostile_label_and_text_stay_text(browser: Any, home: Path, tmp_path: Path) -> None:
    label = "<img src=x onerror=document.title='broken'>"
    table = tmp_path / "hostile.csv"
    rows = [f"{word * 3}{number},{name}" for number in range(30) for word, name in (("a", label), ("b", "plain"))]
    table.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    bundle = made(home, "hostile", data=table, **{"model.name": "ngrams"})
    with Server([bundle], tmp_path, "--workers", 1) as server:
        found = visit(browser, server)
        found.page.fill("#text", "<script>document.title='broken'</script> aaa")
        found.page.click("#texts button")
        said(found)
        assert label in found.page.inner_text("#bars")
        assert found.page.title() != "broken"
        check_quiet(found, server)


def lines_to_paste(found: Opened) -> list[str]:
    found.page.wait_for_selector("h2")
    lines: list[str] = found.page.locator("code").all_inner_texts()
    assert all(line.startswith("curl ") for line in lines)
    return lines


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_every_line_of_the_routes_can_be_pasted(
    kind: str, browser: Any, server: Server, text_server: Server, tmp_path: Path
) -> None:
    asked = server if kind == "images" else text_server
    found = visit(browser, asked, "/docs")
    lines = lines_to_paste(found)
    assert "POST /predict" in found.page.locator("h2").all_inner_texts()
    keep(found, f"routes-{kind}")
    check_quiet(found, asked)
    for name in ("a.jpg", "a.png", "FILE"):
        (tmp_path / name).write_bytes(picture())
    (tmp_path / "a.txt").write_text("很快，好吃", encoding="utf-8")
    pixels = np.zeros((3, 16, 16), int).tolist()
    tensor = {"name": "inputs", "datatype": "UINT8", "shape": [1, 3, 16, 16], "data": pixels}
    (tmp_path / "request.json").write_text(json.dumps({"inputs": [tensor]}), encoding="utf-8")
    assert len(lines) == {"images": 18, "texts": 14}[kind]
    for line in lines:
        told = subprocess.run(
            f"{line} -s -o answer -w '%{{http_code}}'", shell=True, cwd=tmp_path, capture_output=True, text=True
        )
        assert told.stdout == "200", f"{line}: {told.stdout} {(tmp_path / 'answer').read_text(encoding='utf-8')[:300]}"


def test_routes_of_a_service_with_a_key_tell_where_it_goes(browser: Any, images: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-secret-key", encoding="utf-8")
    with Server([images], tmp_path, "--workers", 1, "--api-key-file", "key", "--journal", "-") as server:
        found = visit(browser, server, "/docs", http_credentials={"username": "any", "password": "a-secret-key"})
        lines = {line.rsplit("/", 1)[1]: line for line in lines_to_paste(found)}
        assert lines["info"].startswith("curl -H 'X-API-Key: KEY' http")
        assert lines["livez"].startswith("curl http")
        document = server.ask("GET", "/openapi.json", X_API_Key="a-secret-key")[1]
        assert document["security"] == [{"key": []}, {"bearer": []}, {"basic": []}]
        assert document["paths"]["/readyz"]["get"]["security"] == []


def codes_of_refusals() -> set[str]:
    """Every word that a program can compare, as the sources have them."""
    found = set(app.CODES.values()) | set(re.findall(r'"(\w+)"', inspect.getsource(Service.status.fget)))
    for path in Path(app.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                found |= {part.value for part in ast.walk(node.args[1]) if isinstance(part, ast.Constant)}
    return found - {"ready"}


def test_every_error_has_a_chinese_sentence(browser: Any, server: Server) -> None:
    codes = codes_of_refusals()
    assert {"busy", "unreadable", "not_found", "refused", "stuck"} <= codes and len(codes) > 20
    found = visit(browser, server)
    sentences = found.page.evaluate("SAYS.zh.refused")
    assert sorted(sentences) == sorted(codes)
    assert all(re.fullmatch(r".*[\u4e00-\u9fff]{2}.*。", sentence) for sentence in sentences.values())
    assert found.missing_glyphs("".join(sentences.values())) == []


def refusing(code: str) -> Callable[[Any], object]:
    """The answer of a service that refuses for this reason."""
    return lambda route: route.fulfill(status=503, json={"error": {"code": code, "message": "what it says"}})


def test_errors_are_told_in_the_language_of_the_page(browser: Any, server: Server) -> None:
    found = visit(browser, server)
    found.page.wait_for_selector("#images:visible")

    def told(file: bytes = b"no image") -> str:
        found.page.set_input_files("#file", {"name": "b.png", "mimeType": "image/png", "buffer": file})
        found.page.wait_for_selector("#problem:visible")
        return str(found.page.inner_text("#problem"))

    assert "is not an image" in told()
    found.page.click("[data-language=zh]")
    assert found.page.inner_text("#problem").startswith("无法读取该内容"), "what stands there is said anew"
    found.page.click("[data-language=en]")
    assert "is not an image" in found.page.inner_text("#problem")
    found.page.click("[data-language=zh]")
    for code, expected in (
        ("busy", "等待的请求太多，请稍后再试。"),
        ("too_large", "内容过大，超过了服务的上限。"),
        ("stuck", "模型没有响应，请稍后再试。"),
        ("new_code", "what it says"),
        ("toString", "what it says"),
    ):
        found.page.route("**/predict", refusing(code))
        assert told() == expected
    found.page.route("**/predict", lambda route: route.abort())
    assert told() == "无法连接服务。"
    found.page.unroute("**/predict")
    found.page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": picture()})
    assert said(found) == "红"
    found.page.click("[data-language=en]")
    assert not found.page.locator("#problem").is_visible()
