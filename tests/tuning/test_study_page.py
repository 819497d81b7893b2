"""The page of a study in a real browser: every glyph, nothing fetched, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeTrainings, search_in

from browsing import CHROMIUM, chromium, opened
from danlu.base.errors import ModelError
from danlu.base.studies import Study
from danlu.reporting.study_page import write_study_page
from danlu.tuning.importance import importance_of, write_importance
from danlu.tuning.search import Budget
from danlu.tuning.telling import find_best, gain_told, write_trials

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def write_study(folder: Path, trials: int, **plan: Any) -> Study:
    """A study of fake trainings, a few of which fail, with Chinese names."""

    def loss(values: dict[str, Any]) -> float:
        if values.get("training.batch_size") == 128:
            raise ModelError("内存 is short <b>&</b>")
        return FakeTrainings().loss(values)

    folder.mkdir(parents=True)
    study, trainings = Study(folder), FakeTrainings(loss)
    search = search_in(folder, trainings, data="照片/数据", **plan)
    search.run(Budget(trials=trials))
    tried = search.tried()
    write_trials(study, search.plan, tried)
    write_importance(study, search.plan, tried)
    best = find_best(tried, search.plan, trainings)  # type: ignore[arg-type]
    told = None
    if best is not None:
        told = {"number": best.number, "settings": best.settings, "score": best.score.value(search.plan.best_by)}
        told |= {"gain": gain_told(search.plan, best, tried[0]), "command": "danlu train 照片/数据 training.epochs=3"}
    study.update(
        state="finished", plan=search.plan.to_json(), model="vgg_cnn", seconds=12.3, best=told, run=None, failure=None
    )
    write_study_page(study)
    return study


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("页")
    return {
        "many trials": write_study(home / "很多", 40).page_file,
        "accuracy": write_study(home / "accuracy", 25, best_by="validation_accuracy").page_file,
        "one trial": write_study(home / "one", 1).page_file,
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_page_shows_every_glyph(browser: Any, pages: dict[str, Path]) -> None:
    if opened(browser).missing_glyphs("页"):
        pytest.skip("the machine has no font with Chinese signs, which pages leave to their reader")
    for name, path in pages.items():
        assert opened(browser).open(path).missing_glyphs() == [], name


def test_page_fetches_nothing_and_complains_of_nothing(browser: Any, pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        shown = opened(browser).open(path)
        assert (shown.outside_requests, shown.complaints) == ([], []), name


def test_page_fits_a_phone(browser: Any, pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        assert not opened(browser, width=360).open(path).is_wider_than_the_window(), name


def test_page_has_history_importance_slices_and_lines(browser: Any, pages: dict[str, Path]) -> None:
    shown = opened(browser).open(pages["many trials"])
    labels = shown.page.evaluate("[...document.querySelectorAll('figure')].map((f) => f.getAttribute('aria-label'))")
    assert labels.count("scores by one setting") == 3
    assert "importance of each setting" in labels
    assert "score of each trial and the best so far" in labels


def test_reason_of_a_failure_is_text(browser: Any, pages: dict[str, Path]) -> None:
    shown = opened(browser).open(pages["many trials"])
    assert "内存 is short <b>&</b>" in shown.page.inner_text("body")


def test_few_trials_have_no_importance(pages: dict[str, Path]) -> None:
    assert "What mattered" not in pages["one trial"].read_text(encoding="utf-8")


def test_importance_finds_what_matters(tmp_path: Path) -> None:
    search = search_in(
        tmp_path, FakeTrainings(lambda values: values.get("training.learning_rate", 0.003)), sampler="random"
    )
    search.run(Budget(trials=40))
    shares = importance_of(search.plan, search.tried())
    assert next(iter(shares)) == "training.learning_rate"
    assert sum(shares.values()) == pytest.approx(1)
