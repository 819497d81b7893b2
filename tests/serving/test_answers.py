"""What a running service answers: every way to ask, every wrong way, and the same as offline."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from server import Server

import danlu


def picture(color: tuple[int, ...] = (220, 40, 40), size: tuple[int, int] = (40, 28), form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, form)
    return out.getvalue()


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(*files: bytes, name: str = "file") -> tuple[bytes, str]:
    parts = [
        f'--X\r\nContent-Disposition: form-data; name="{name}"; filename="{i}.png"\r\n\r\n'.encode() + data + b"\r\n"
        for i, data in enumerate(files)
    ]
    return b"".join(parts) + b"--X--\r\n", "multipart/form-data; boundary=X"


def test_image_is_answered_alike_in_every_way_it_can_come(server: Server, images: Path) -> None:
    data = picture()
    offline = danlu.load(images).predict([data])[0]
    found = [
        server.ask("POST", "/predict", *form(data))[1],
        server.post(data)[1],
        server.ask("POST", "/predict", data, "image/png")[1],
        server.post({"image": in_base64(data)})[1],
        server.post({"image": "data:image/png;base64," + in_base64(data)})[1],
        server.post({"images": [in_base64(data)] * 3}, "/predict/batch")[1]["answers"][2],
        server.ask("POST", "/predict/batch", *form(data, data, name="files"))[1]["answers"][1],
    ]
    for answer in found:
        assert answer["class"] == offline.label == "红"
        assert answer["probabilities"] == pytest.approx(offline.probabilities, abs=1e-5)
        assert answer["confidence"] == max(answer["probabilities"].values())
        assert not answer["unknown"]


def test_pixels_of_the_models_size_are_answered(server: Server, images: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    status, answer = server.post({"pixels": pixels.tolist()})
    assert status == 200
    assert answer["probabilities"] == pytest.approx(danlu.load(images).predict([pixels])[0].probabilities, abs=1e-5)


def test_text_is_answered_as_json_and_as_it_stands(text_server: Server, texts: Path) -> None:
    offline = danlu.load(texts).predict(["很好吃，满意"])[0]
    for status, answer, _ in (
        text_server.ask("POST", "/predict", '{"text": "很好吃，满意"}'.encode(), "application/json"),
        text_server.ask("POST", "/predict", "很好吃，满意".encode(), "text/plain; charset=utf-8"),
    ):
        assert (status, answer["class"]) == (200, offline.label)
        assert answer["probabilities"] == pytest.approx(offline.probabilities, abs=1e-5)
    batch = text_server.post({"texts": ["很好吃，满意", " ", "太慢"]}, "/predict/batch")[1]["answers"]
    assert batch[0]["class"] == offline.label
    assert batch[1]["error"]["code"] == "unreadable" and batch[2]["class"] in ("0", "1")


def test_one_bad_item_harms_no_other(server: Server) -> None:
    items = [in_base64(picture((220, 40, 40 + i))) for i in range(31)]
    items.insert(13, in_base64(b"poison"))
    alone = [server.post({"image": item})[1] for item in items]
    status, found = server.post({"images": items}, "/predict/batch")
    assert status == 200
    errors = [place for place, answer in enumerate(found["answers"]) if "error" in answer]
    assert errors == [13]
    for one, other in zip(alone, found["answers"], strict=True):
        if "error" not in other:
            assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-5)


CANARY = "canary-7f3a"
LONG = "A" * 1_100_000
WRONG: dict[str, tuple[bytes, str, int]] = {
    "empty": (b"", "image/png", 422),
    "text named as an image": (CANARY.encode(), "image/png", 422),
    "web page": (b"<!doctype html><p>" + CANARY.encode(), "image/jpeg", 422),
    "cut png": (picture()[:60], "image/png", 422),
    "cut jpeg": (picture(form="JPEG")[:300], "image/jpeg", 422),
    "too large": (b"\x89PNG\r\n\x1a\n" + b"x" * (10 * 2**20), "image/png", 413),
    "no json": (CANARY.encode(), "application/json", 400),
    "not utf-8": (b'{"image": "\xff"}', "application/json", 400),
    "cut json": (b'{"image": "' + CANARY.encode(), "application/json", 400),
    "number on top": (b"3", "application/json", 422),
    "list on top": (b"[]", "application/json", 422),
    "null": (b'{"image": null}', "application/json", 422),
    "unknown field": (f'{{"{CANARY}": 1}}'.encode(), "application/json", 422),
    "no field": (b"{}", "application/json", 422),
    "two fields": (b'{"image": "aa", "pixels": []}', "application/json", 422),
    "field twice": (b'{"image": "aa", "image": "bb"}', "application/json", 400),
    "not a number": (b'{"pixels": [[NaN]]}', "application/json", 400),
    "infinity": (b'{"pixels": [[1e999]]}', "application/json", 422),
    "depth": (b'{"pixels": ' + b"[" * 5000 + b"]" * 5000 + b"}", "application/json", 400),
    "deep list": (b'{"pixels": ' + b"[" * 100 + b"1" + b"]" * 100 + b"}", "application/json", 422),
    "long json": (json.dumps({"image": LONG}).encode(), "application/json", 413),
    "ragged": (b'{"pixels": [[1, 2], [3]]}', "application/json", 422),
    "other size": (b'{"pixels": [[1, 2], [3, 4]]}', "application/json", 422),
    "out of range": (json.dumps({"pixels": [[[256, 0, 0]] * 16] * 16}).encode(), "application/json", 422),
    "fractions": (json.dumps({"pixels": [[[0.5, 0, 0]] * 16] * 16}).encode(), "application/json", 422),
    "huge number": (b'{"pixels": [[' + b"9" * 5000 + b"]]}", "application/json", 400),
    "address": (b'{"image": "http://127.0.0.1/a.png"}', "application/json", 422),
    "path": (b'{"image": "/etc/passwd"}', "application/json", 422),
    "padding": (b'{"image": "a"}', "application/json", 422),
    "text for images": (b'{"text": "a"}', "application/json", 422),
    "plain text": (b"a", "text/plain", 415),
    "no type": (picture(), "", 415),
    "form without boundary": (b"x", "multipart/form-data", 400),
    "broken form": (b"--Y\r\nnonsense", "multipart/form-data; boundary=X", 400),
    "form without file": (b"--X--\r\n", "multipart/form-data; boundary=X", 422),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_and_not_repeated(server: Server, case: str) -> None:
    body, kind, status = WRONG[case]
    found, answer, headers = server.ask("POST", "/predict", body, kind)
    assert found == status, answer
    assert set(answer) == {"error"} and set(answer["error"]) == {"code", "message", "id"}
    assert answer["error"]["id"] == headers["x-request-id"]
    told = json.dumps(answer, ensure_ascii=False) + str(headers)
    for secret in (CANARY, "Traceback", "passwd", "127.0.0.1/", str(server.folder), "site-packages"):
        assert secret not in told
    assert server.post(picture())[0] == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"text": ""}', 422),
        (b'{"text": "  \\u200b"}', 422),
        (b'{"text": 3}', 422),
        (b'{"text": ["a"]}', 422),
        (b'{"text": "\\ud800"}', 200),
        (b'{"text": "a\\u0000b \\u202e c"}', 200),
        (json.dumps({"text": "饕" * 300_000}, ensure_ascii=False).encode(), 200),
        (b"\xef\xbb\xbf" + b'{"text": "a"}', 200),
        ('{"text": "好"}'.encode("utf-16"), 400),
        ('{"text": "好"}'.encode("gb18030"), 400),
        (b'{"image": "aaaa"}', 422),
    ],
    ids=["empty", "blank", "number", "list", "surrogate", "control", "long", "BOM", "UTF-16", "GB18030", "image"],
)
def test_texts_of_every_kind_have_an_answer_or_a_refusal(text_server: Server, raw: bytes, status: int) -> None:
    found, answer, _ = text_server.ask("POST", "/predict", raw, "application/json")
    assert found == status, answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/predict", 405),
        ("GET", "/predict", 405),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/%2e%2e/app.py", 404),
        ("GET", "/page/app.py", 404),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/", 200),
        ("GET", "/page/page.js", 200),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/model/info", 200),
    ],
)
def test_routes(server: Server, method: str, path: str, status: int) -> None:
    found, content, headers = server.ask(method, path)
    assert found == status, content
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_page_names_nothing_outside(server: Server) -> None:
    for path in ("/", "/docs", "/page/page.js", "/page/page.css", "/page/docs.js"):
        content = server.ask("GET", path)[1]
        assert "http://" not in content and "https://" not in content and "//cdn" not in content
        assert "innerHTML" not in content


def test_compressed_body_is_refused(server: Server) -> None:
    import gzip

    status, answer, _ = server.ask("POST", "/predict", gzip.compress(picture()), "image/png", Content_Encoding="gzip")
    assert (status, answer["error"]["code"]) == (415, "encoded")


def test_request_id_is_taken_over_where_it_is_one(server: Server) -> None:
    assert server.ask("GET", "/livez", X_Request_ID="order-7")[2]["x-request-id"] == "order-7"
    assert server.ask("GET", "/livez", X_Request_ID="<script>")[2]["x-request-id"] != "<script>"


def test_counters_are_told(server: Server) -> None:
    before = server.ask("GET", "/metrics")[1]
    server.post(picture())
    after = server.ask("GET", "/metrics")[1]

    def count(page: str) -> float:
        name = 'danlu_requests_total{route="/predict",status="200"} '
        lines = [line for line in page.splitlines() if line.startswith(name)]
        return float(lines[0].removeprefix(name)) if lines else 0.0

    assert count(after) == count(before) + 1


def test_journal_has_a_line_for_each_answer_and_no_input(images: Path, tmp_path: Path) -> None:
    from danlu.base.journal import Journal

    with Server([images], tmp_path, "--workers", 2) as server:
        ids = [server.post(picture())[1]["id"] for _ in range(7)]
    rows: list[dict[str, Any]] = list(Journal(tmp_path / "journal").rows())
    assert sorted(row["id"] for row in rows) == sorted(ids)
    fields = {"time", "id", "model", "class", "unknown", "confidence", "entropy", "ms", "features"}
    assert set(rows[0]) == fields and len(rows[0]["features"]) == 9


def test_answers_of_a_batch_have_ids_of_their_own(images: Path, tmp_path: Path) -> None:
    from danlu.base.journal import Journal

    with Server([images], tmp_path, "--workers", 1) as server:
        body = {"images": [base64.b64encode(picture()).decode(), "no", base64.b64encode(picture()).decode()]}
        _, found, _ = server.ask(
            "POST", "/predict/batch", json.dumps(body).encode(), "application/json", X_Request_Id="mine"
        )
    assert [one.get("id") for one in found["answers"]] == ["mine.0", None, "mine.2"] and found["id"] == "mine"
    assert [row["id"] for row in Journal(tmp_path / "journal").rows()] == ["mine.0", "mine.2"]


def test_journal_tells_a_monitor_what_it_has_to_know(images: Path, tmp_path: Path) -> None:
    """The numbers in the journal are those that the bundle's reference has, rounded in the same way."""
    from danlu.base.bundle import open_bundle
    from danlu.base.journal import Journal
    from danlu.prediction.reference import Reference, numbers_of, read_reference

    with Server([images], tmp_path, "--workers", 1) as server:
        assert server.post(picture())[0] == 200
    journal = Journal(tmp_path / "journal")
    (row,), references = list(journal.rows()), journal.references()
    reference = read_reference(open_bundle(images))
    assert Reference.from_json(references[row["model"]], "journal").to_json() == reference.to_json()
    predictor = danlu.load(images)
    numbers = numbers_of(*predictor.with_features(np.stack([predictor.read(picture())])), reference.summary)[0]
    assert [row["confidence"], row["entropy"], *row["features"]] == pytest.approx(numbers.tolist(), abs=2e-4)
