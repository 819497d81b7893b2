"""`danlu tune` on real trainings: from DATA to a study, its best settings and a run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import danlu
from danlu import SearchSettings
from danlu.base.config import read_config
from danlu.base.errors import ConfigError, MachineError, ModelError
from danlu.base.runs import runs_folder, splits_folder
from danlu.base.studies import Study
from danlu.cli.tune import command
from danlu.tuning.storage import masked, place_of, scrubbed
from danlu.tuning.tune import Tuning
from pictures import write_pictures, write_reviews

SETTINGS = {"model.name": "mlp", "training.epochs": 9, "training.threads": 1}
URL = "postgresql://danlu:s3cret@127.0.0.1:1/studies"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with photos, one whole search and what it wrote; tests of it only read."""
    home = tmp_path_factory.mktemp("tune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_CACHE", str(home / ".cache"))
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        write_pictures(home / "照片", count=20)
        yield home


@pytest.fixture(scope="module")
def tuning(home: Path) -> Tuning:
    return danlu.tune(home / "照片", SETTINGS, name="first", search=SearchSettings(trials=12))


@pytest.fixture
def in_home(home: Path, tuning: Tuning, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of the whole search, for what reads them."""
    monkeypatch.setenv("DANLU_CACHE", str(home / ".cache"))
    monkeypatch.setenv("DANLU_RUNS", str(home / "runs"))
    return home


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos")


def rows_of(study: Study) -> list[dict[str, str]]:
    with open(study.trials_file, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_winner_is_trained_as_its_trial_was(tuning: Tuning, in_home: Path) -> None:
    assert tuning.run is not None
    assert tuning.run.status()["best"]["validation_loss"] == tuning.score


def test_winner_is_no_worse_than_the_defaults(tuning: Tuning) -> None:
    assert tuning.defaults_score is not None
    assert tuning.score <= tuning.defaults_score


def test_run_names_the_study(tuning: Tuning, in_home: Path) -> None:
    assert tuning.run is not None
    told = tuning.run.status()["study"]
    assert (told["name"], told["trials"], told["score"]) == ("first", 12, tuning.score)


def test_test_part_is_not_looked_at(tuning: Tuning, in_home: Path) -> None:
    assert tuning.run is not None
    assert tuning.run.evaluation() is None
    assert list(splits_folder().glob("looks-*")) == []


def test_trials_write_no_runs(tuning: Tuning, in_home: Path) -> None:
    runs = [path for path in runs_folder().iterdir() if (path / "run.json").exists() and not path.is_symlink()]
    assert runs == [tuning.run.folder]  # type: ignore[union-attr]


def test_table_has_every_trial_with_its_settings(tuning: Tuning, in_home: Path) -> None:
    rows = rows_of(tuning.study)
    assert [int(row["number"]) for row in rows] == list(range(12))
    assert rows[0]["defaults"] == "true"
    assert all(float(row["training.learning_rate"]) > 0 for row in rows)


def test_best_settings_train_to_the_same_score(tuning: Tuning, in_home: Path) -> None:
    run = danlu.train(in_home / "照片", config=tuning.study.best_file, name="again")
    assert run.status()["best"]["validation_loss"] == tuning.score


def test_command_holds_the_settings(tuning: Tuning) -> None:
    assert tuning.command.startswith("danlu train ")
    for key, value in tuning.best.items():
        assert f"{key}={str(value).lower() if isinstance(value, bool) else value}" in tuning.command


def test_space_file_can_be_given_back(tuning: Tuning, in_home: Path) -> None:
    search = SearchSettings(trials=3, space=str(tuning.study.space_file))
    again = danlu.tune(in_home / "照片", SETTINGS, name="second", search=search)
    assert again.study.space_file.read_text() == tuning.study.space_file.read_text()


def test_page_tells_what_was_found(tuning: Tuning, in_home: Path) -> None:
    page = tuning.study.page_file.read_text(encoding="utf-8")
    assert f"Trial {tuning.study.status()['best']['number']}" in page
    assert "照片" in page
    assert "<script" not in page


def test_finished_study_is_not_searched_again(tuning: Tuning, in_home: Path) -> None:
    again = danlu.tune(resume="first")
    assert (again.trials, again.run) == (12, tuning.run)


def test_study_is_gone_on_with_to_a_larger_budget(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    danlu.tune(photos, SETTINGS, name="a", search=SearchSettings(trials=3))
    capsys.readouterr()
    again = danlu.tune(resume="a", search=SearchSettings(trials=5))
    assert again.trials == 5
    assert "trial 2 " not in capsys.readouterr().err


def test_same_command_with_the_same_name_goes_on(photos: Path) -> None:
    danlu.tune(photos, SETTINGS, name="a", search=SearchSettings(trials=3))
    assert danlu.tune(photos, SETTINGS, name="a", search=SearchSettings(trials=4)).trials == 4


def test_same_name_with_other_settings_is_refused(photos: Path) -> None:
    danlu.tune(photos, SETTINGS, name="a", search=SearchSettings(trials=1))
    with pytest.raises(ConfigError, match="begun with other"):
        danlu.tune(photos, {**SETTINGS, "training.epochs": 5}, name="a", search=SearchSettings(trials=2))


def test_study_on_data_that_has_changed_is_refused(photos: Path) -> None:
    danlu.tune(photos, SETTINGS, name="a", search=SearchSettings(trials=1))
    shutil.rmtree(photos)
    write_pictures(photos, count=13, seed=1)
    with pytest.raises(ConfigError, match="is not what it was when the study `a` began"):
        danlu.tune(resume="a", search=SearchSettings(trials=2))
    with pytest.raises(ConfigError, match="begun with other content"):
        danlu.tune(photos, SETTINGS, name="a", search=SearchSettings(trials=2))


def test_keys_set_by_the_user_are_not_searched(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**SETTINGS, "training.learning_rate": 0.01}
    tuning = danlu.tune(photos, settings, search=SearchSettings(trials=2))
    assert "not searched, since you set it: training.learning_rate" in capsys.readouterr().err
    assert "training.learning_rate" not in tuning.best
    assert "training.learning_rate=0.01" in tuning.command


def test_every_combination_of_a_grid_is_tried_in_full(photos: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("training.learning_rate: [0.001, 0.01]\ntraining.batch_size: [8, 16]\n", encoding="utf-8")
    tuning = danlu.tune(photos, {**SETTINGS, "training.epochs": 2}, search=SearchSettings(grid=str(grid)))
    rows = rows_of(tuning.study)
    tried = {(row["training.learning_rate"], row["training.batch_size"]) for row in rows if row["defaults"] == "false"}
    assert tried == {("0.001", "8"), ("0.001", "16"), ("0.01", "8"), ("0.01", "16")}
    assert {row["fidelity"] for row in rows} == {"1.0"}


def test_too_large_a_grid_is_told_before_it_starts(photos: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    values = ", ".join(str(place) for place in range(1, 120))
    grid.write_text(f"training.batch_size: [{values}]\ntraining.epochs: [{values}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="14,161 combinations"):
        danlu.tune(photos, {"model.name": "mlp"}, search=SearchSettings(grid=str(grid)))


def test_architectures_are_searched(tmp_path: Path) -> None:
    reviews = write_reviews(tmp_path / "评论.csv")
    search = SearchSettings(trials=4, models=("ngrams", "textcnn"))
    tuning = danlu.tune(reviews, {"training.epochs": 2, "training.threads": 1}, search=search)
    rows = rows_of(tuning.study)
    assert {row["model.name"] for row in rows} == {"ngrams", "textcnn"}
    assert "textcnn:" in tuning.study.space_file.read_text(encoding="utf-8")


def test_all_failing_is_an_error_with_the_commonest_reason(photos: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("training.learning_rate: {low: 1.0e+30, high: 1.0e+35, log: true}\n", encoding="utf-8")
    settings = {**SETTINGS, "training.optimizer": "sgd", "training.clip_norm": None}
    with pytest.raises(ModelError) as caught:
        danlu.tune(
            photos,
            {**settings, "training.weight_decay": 1e20},
            name="a",
            search=SearchSettings(trials=3, space=str(space)),
        )
    assert "all 3 trials failed" in str(caught.value)
    assert "3 of them with: NotANumber: the training loss became NaN" in str(caught.value)
    assert danlu.base.studies.find_study("a").status()["state"] == "failed"


FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    "trials": ({"trials": 0}, "--trials    expected a whole number of at least 1, got 0"),
    "minutes": ({"minutes": 0.0}, "--minutes"),
    "workers": ({"workers": 0}, "--workers"),
    "sampler": ({"sampler": "tpee"}, "expected one of tpe, random, grid"),
    "models": ({"models": ("resnt",)}, "no model called 'resnt'"),
    "grid without lists": ({"sampler": "grid"}, "--grid FILE"),
    "grid and trials": ({"grid": "a.yaml", "trials": 4}, "a grid has its own number"),
}


@pytest.mark.parametrize(("how", "told"), FAULTY.values(), ids=list(FAULTY))
def test_fault_of_how_to_search_is_named(how: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        danlu.tune("digits", search=SearchSettings(**how))
    assert told.replace("    ", " ") in " ".join(str(caught.value).split()).replace("    ", " ") or told in str(
        caught.value
    )


def test_search_that_cannot_begin_leaves_no_folder(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        danlu.tune(photos, search=SearchSettings(space="none.yaml"))
    assert list((tmp_path / "runs" / "studies").iterdir()) == []


def test_sqlite_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError) as caught:
        danlu.tune("digits", search=SearchSettings(storage="sqlite:///a.db"))
    assert "its writers lock each other out" in str(caught.value)
    assert "the journal in the study's folder" in str(caught.value)


def test_search_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="not those of a search"):
        danlu.tune("digits")


def test_unknown_storage_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no storage of a search"):
        danlu.tune("digits", search=SearchSettings(storage="redis://localhost"))


def test_storage_that_cannot_be_reached_is_one_message_without_the_password(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MachineError) as caught:
        danlu.tune(photos, SETTINGS, name="a", search=SearchSettings(storage=URL, trials=2))
    told = str(caught.value) + capsys.readouterr().err
    assert "postgresql+pg8000://danlu:***@127.0.0.1:1/studies` does not work" in told
    assert "s3cret" not in told
    assert caught.value.__cause__ is None
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes(), path


def test_password_is_masked_wherever_it_stands() -> None:
    for url in (URL, "postgresql://u:p@ss:s3cret@h/d", "postgresql://h/d?user=u&password=s3cret&x=1"):
        assert "s3cret" not in masked(url)
    place = place_of("postgresql://u:s3%2Fcret@h/d", Path("journal.log"))
    assert scrubbed("auth failed for s3/cret, s3%2Fcret", place) == "auth failed for ***, ***"
    assert "s3" not in f"{place} {place!r}"


def test_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "s3/cret")
    assert place_of("postgresql://u@h/d", Path("journal.log")).url == "postgresql+pg8000://u:s3%2Fcret@h/d"


def test_data_is_read_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from danlu.training import start

    reads: list[int] = []
    prepare = start.prepare
    monkeypatch.setattr(start, "prepare", lambda *given, **named: (reads.append(1), prepare(*given, **named))[1])
    monkeypatch.setattr("danlu.tuning.tune.train", lambda *given, **named: pytest.fail("the search is over"))
    with pytest.raises(pytest.fail.Exception):
        danlu.tune(photos, SETTINGS, search=SearchSettings(trials=4))
    assert len(reads) == 1


def test_command_line_trains_tests_once_and_prints_the_run(photos: Path) -> None:
    words = [str(photos), "model.name=mlp", "training.epochs=3", "training.threads=1", "--trials", "2", "--name", "a"]
    told = CliRunner().invoke(command, words, catch_exceptions=False)
    assert told.exit_code == 0
    run = Path(told.stdout.strip().splitlines()[-1])
    assert json.loads((run / "evaluation.json").read_text())["part_looks"] == 1
    again = CliRunner().invoke(command, ["--resume", "a"], catch_exceptions=False)
    assert again.exit_code == 0
    assert sum(len(path.read_text().splitlines()) for path in splits_folder().glob("looks-*")) == 1


def test_setting_in_place_of_data_is_told() -> None:
    told = CliRunner().invoke(command, ["training.epochs=3"])
    assert "DATA comes first" in str(told.exception)


def test_signal_stops_the_search_which_goes_on_later(photos: Path, tmp_path: Path) -> None:
    words = [
        str(photos),
        "model.name=mlp",
        "training.epochs=30",
        "training.threads=1",
        "--trials",
        "400",
        "--name",
        "a",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "danlu", "tune", *words], stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    journal = tmp_path / "runs" / "studies" / "a" / "journal.log"
    until = time.time() + 60
    while time.time() < until and not (journal.exists() and journal.read_bytes().count(b'"op_code":6') > 6):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped; go on with `danlu tune --resume" in told
    study = danlu.base.studies.find_study("a")
    assert study.status()["state"] == "interrupted"
    count = len([row for row in rows_of(study) if row["state"] != "lost"])
    assert danlu.tune(resume="a", search=SearchSettings(trials=count + 2)).trials == count + 2


def test_study_that_is_searched_is_held(tuning: Tuning, in_home: Path) -> None:
    with tuning.study.hold(), pytest.raises(MachineError, match="is in use"):
        danlu.tune(resume="first")


def test_unknown_study_names_the_nearest(tuning: Tuning, in_home: Path) -> None:
    with pytest.raises(ConfigError, match="nearest: 'first'"):
        danlu.tune(resume="frist")


def test_resume_takes_nothing_else(tuning: Tuning, in_home: Path) -> None:
    with pytest.raises(ConfigError, match="its own data"):
        danlu.tune("digits", resume="first")


def test_best_file_is_a_configuration(tuning: Tuning) -> None:
    settings = read_config(tuning.study.best_file).settings
    assert settings.model.name == "mlp"
    for key, value in tuning.best.items():
        section, _, name = key.partition(".")
        assert getattr(getattr(settings, section), name) == value
