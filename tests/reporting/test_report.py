"""The verb `report`: every section says what is on disk, for failed runs too; PNG charts name what they cannot draw."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import danlu
from danlu.base.config import read_config, read_origins
from danlu.reporting import drawing, figures
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 2, "training.threads": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def evaluated(home: Path) -> danlu.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_CACHE", str(home / ".cache"))
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        run = danlu.train(write_pictures(home / "照片"), {**QUICK, "training.learning_rate": 0.004}, name="第一")
        danlu.evaluate(run)
    return run


def text_of(path: Path) -> str:
    """What a person reads, without tags."""
    page = re.sub(r"<style>.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_report_says_what_the_evaluation_found(evaluated: danlu.Run) -> None:
    told = text_of(danlu.report(evaluated))
    saved = evaluated.evaluation()
    assert saved is not None
    assert f"{saved['accuracy']:.2%} of {saved['examples']} test examples" in told
    for name, row in saved["per_class"].items():
        precision = f"{row['precision']:.1%}" if row["answered"] else "–"
        assert f"{name} {row['support']} {precision} {row['recall']:.1%} {row['f1']:.1%}" in told
    assert f"{saved['calibration']['after']['expected_calibration_error']:.2%}" in told
    assert "this test part has been looked at once, by this run" in told
    for row in evaluated.gallery():
        assert row["key"] in told


def test_report_names_every_setting_with_its_origin(evaluated: danlu.Run) -> None:
    told = text_of(danlu.report(evaluated))
    rows = read_origins(evaluated.config_file)
    assert [key for key, _, _ in rows] == [key for key, _, _ in read_config(evaluated.config_file).rows()]
    assert "training.learning_rate 0.004 settings" in told
    assert all(f" {key} " in told for key, _, _ in rows)


def test_report_has_a_chart_for_each_curve_and_ids_of_their_own(evaluated: danlu.Run) -> None:
    page = danlu.report(evaluated).read_text(encoding="utf-8")
    assert page.count("<svg") == 7
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(ids)


def test_report_of_a_run_that_was_not_evaluated_says_how_to(home: Path, tmp_path: Path) -> None:
    run = danlu.train(home / "照片" if (home / "照片").exists() else write_pictures(tmp_path / "p"), QUICK)
    told = text_of(danlu.report(run))
    assert f"danlu evaluate {run.name}" in told
    assert "Confusions" not in told


def test_report_of_a_failed_run_tells_why(tmp_path: Path) -> None:
    settings = {**QUICK, "training.learning_rate": 1e12, "training.clip_norm": None, "training.optimizer": "sgd"}
    with pytest.raises(danlu.ModelError):
        danlu.train(write_pictures(tmp_path / "p"), settings)
    told = text_of(danlu.report("latest"))
    assert "the training did not finish: the weights are no longer numbers" in told
    assert "has not been evaluated" in told


def test_report_of_a_run_without_a_test_part(tmp_path: Path) -> None:
    run = danlu.train(write_pictures(tmp_path / "p"), {**QUICK, "data.split": [0.8, 0.2, 0.0]})
    assert "has not been evaluated" in text_of(danlu.report(run))


def test_report_of_many_test_images_stays_below_3_megabytes(tmp_path: Path) -> None:
    """The gallery is as large as it gets: every answer is wrong, every picture is large and noisy."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for index in range(150):
            pixels = rng.integers(0, 255, (240, 320, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "p" / name / f"{index}.jpg")
    run = danlu.train(tmp_path / "p", {**QUICK, "data.image_size": 16, "training.epochs": 1})
    danlu.evaluate(run)
    assert len(run.gallery()) > 24
    assert danlu.report(run).stat().st_size < 3_000_000


def test_every_pixel_chart_is_written_on_request(evaluated: danlu.Run) -> None:
    danlu.report(evaluated, png=True)
    written = {path.name for path in evaluated.charts_folder.iterdir()}
    assert written == {
        f"{name}.png"
        for name in ("loss", "accuracy", "learning_rate", "confusion", "reliability", "risk_coverage", "balance")
    }
    for path in evaluated.charts_folder.iterdir():
        with Image.open(path) as image:
            assert image.width > 400


def test_png_charts_without_a_chinese_font_say_so(
    evaluated: danlu.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drawing, "CJK_FAMILIES", ())
    danlu.report(evaluated, png=True)
    told = capsys.readouterr().err
    assert "the PNG charts lack 1 signs that no installed font has, first: 红" in told
    assert "such as Noto Sans CJK" in told


def test_png_charts_use_an_installed_chinese_font_and_say_nothing(
    evaluated: danlu.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    if not drawing.installed_cjk_families():
        pytest.skip("no Chinese font is installed")
    danlu.report(evaluated, png=True)
    assert "lack" not in capsys.readouterr().err


def test_confusion_chart_of_many_classes_keeps_its_names_apart() -> None:
    for number in (2, 20, 40, 200):
        counts = np.eye(number, dtype=int).tolist()
        with drawing.style():
            svg = drawing.as_svg(figures.confusion(counts, [f"第{i}类" for i in range(number)]), "c")
        assert svg.count("类") == (2 * number if number <= figures.NAMED_CLASSES else 0)


def test_report_in_python_takes_a_run_or_its_name(evaluated: danlu.Run) -> None:
    assert danlu.report(evaluated.folder) == evaluated.report_file


def test_texts_of_the_gallery_stand_in_the_report(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), QUICK)
    danlu.evaluate(run)
    told = text_of(danlu.report(run))
    assert all(row["text"] in told for row in run.gallery())


def test_class_names_in_charts_are_shown_as_they_are() -> None:
    names = ['a id="b', "url(#x)", 'href="#y', "$x^2$"]
    with drawing.style():
        svg = drawing.as_svg(figures.confusion(np.eye(4, dtype=int).tolist(), names), "confusion")
    shown = html.unescape(svg)
    assert all(shown.count(name) >= 2 for name in names)


def test_confusion_chart_of_a_thousand_classes_stays_small() -> None:
    counts = np.random.default_rng(0).integers(0, 5, (1000, 1000)).tolist()
    with drawing.style():
        svg = drawing.as_svg(figures.confusion(counts, [str(i) for i in range(1000)]), "c")
    assert len(svg) < 1_500_000


def test_page_forbids_itself_to_fetch_anything(evaluated: danlu.Run) -> None:
    page = danlu.report(evaluated).read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_report_does_not_tell_in_which_folders_the_data_lay(evaluated: danlu.Run) -> None:
    assert str(Path(evaluated.status()["data"]).parent) not in danlu.report(evaluated).read_text(encoding="utf-8")


def test_lost_epochs_are_told(home: Path, evaluated: danlu.Run) -> None:
    rows = evaluated.history_file.read_text(encoding="utf-8")
    try:
        evaluated.history_file.write_text(rows.splitlines(keepends=True)[0], encoding="utf-8")
        assert "`history.jsonl` has 1 of 2 epochs" in danlu.report(evaluated).read_text(encoding="utf-8").replace(
            "<code>", "`"
        ).replace("</code>", "`")
    finally:
        evaluated.history_file.write_text(rows, encoding="utf-8")
