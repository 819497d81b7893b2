"""The run folder: names, `latest`, finding a run again, and what a damaged one says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from danlu.base.errors import ConfigError, MachineError, ModelError
from danlu.base.runs import Run, create_run, find_run, list_runs, point_latest, runs_folder, splits_folder


def made(name: str, started: str = "2026-01-01") -> Run:
    run = create_run(name, "base")
    run.update(state="done", started=started)
    return run


def test_runs_stand_below_the_working_folder_or_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_folder() == Path("runs")
    monkeypatch.setenv("DANLU_RUNS", "elsewhere")
    assert runs_folder() == Path("elsewhere")
    assert splits_folder() == Path("elsewhere/.splits")


def test_new_run_has_its_folder_and_latest_points_to_it() -> None:
    first, second = create_run("一", "x"), create_run("b", "x")
    assert first.folder.is_dir()
    assert os.readlink("runs/latest") == second.name
    point_latest(first)
    assert Path("runs/latest").resolve() == first.folder.resolve()
    assert sorted(os.listdir("runs")) == sorted(["b", "latest", "一"])


def test_run_without_a_name_is_named_by_time_and_data() -> None:
    first, second, third = (create_run(None, "../照片 of cats!") for _ in range(3))
    assert first.name.endswith("-照片-of-cats")
    assert len({first.name, second.name, third.name}) == 3


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "/a", ".hidden", "-x", "a b", "a\n", "latest", "x" * 101]
)
def test_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_run(name, "base")
    assert caught.value.message == f"{name!r} cannot name a run"
    assert caught.value.hint == "letters, digits, `-`, `_` and `.`, and not `latest`"
    assert not Path("runs").exists()


def test_taken_name_is_refused_with_the_command_that_goes_on() -> None:
    run = create_run("a", "base")
    go_on = "hint: go on with it: `danlu train --resume runs/a`; or choose another name"
    another = "hint: choose another name, or remove the folder"
    for written, told, hint in (
        (None, "damaged", another),
        ("prepared", "crashed", go_on),
        ("running", "crashed", go_on),
        ("interrupted", "interrupted", go_on),
        ("failed", "failed", go_on),
        ("finished", "finished", another),
    ):
        if written:
            run.update(state=written)
        with pytest.raises(ConfigError) as caught:
            create_run("a", "base")
        assert str(caught.value) == f"the run `runs/a` exists already (state: {told})\n\n{hint}"


def test_taken_name_of_a_run_in_training_is_no_reason_to_remove_it() -> None:
    run = create_run("a", "base")
    run.update(state="running", process=os.getpid())
    with run.hold(), pytest.raises(ConfigError) as caught:
        create_run("a", "base")
    assert caught.value.hint == "choose another name, or wait for it"


def test_running_is_crashed_unless_a_process_holds_the_run() -> None:
    run = create_run("a", "base")
    run.update(state="running", process=123)
    assert run.state() == "crashed"
    with run.hold():
        assert run.state() == "running"
        with pytest.raises(MachineError, match="the run `runs/a` is in use by process 123"), run.hold():
            pass
    assert run.state() == "crashed"


def test_prepared_is_crashed_once_its_process_is_gone() -> None:
    run = create_run("a", "base")
    run.update(state="prepared", process=os.getpid())
    assert run.state() == "prepared"
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    run.update(process=done.pid)
    assert run.state() == "crashed"


def test_who_only_looks_does_not_keep_a_training_from_starting() -> None:
    run = create_run("a", "base")
    looking, started = threading.Event(), time.perf_counter()

    def look() -> None:
        with run.hold():
            looking.set()
            time.sleep(0.1)

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    with run.hold():
        assert time.perf_counter() - started >= 0.1
    thread.join()


def test_going_back_keeps_the_steps_of_the_checkpoint_and_counts_lost_ones() -> None:
    run = create_run("a", "base")
    run.add_steps([{"step": 0}, {"step": 1}])
    run.add_steps([{"step": 2}, {"step": 3}])
    run.add_history({"epoch": 0})
    assert run.keep([], 3) == 0
    assert run.history() == []
    assert run.steps() == [{"step": 0}, {"step": 1}, {"step": 2}]
    assert run.keep([], 5) == 2


def test_folder_that_cannot_be_made_is_a_machine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("DANLU_RUNS", "file")
    with pytest.raises(MachineError, match="cannot make the run folder `file/a`: Not a directory"):
        create_run("a", "base")


def test_run_is_found_by_name_by_path_and_as_latest() -> None:
    run = made("a")
    assert find_run("a") == find_run("runs/a") == find_run(Path("runs/a"))
    assert find_run("latest").folder.resolve() == run.folder.resolve()


def test_unknown_run_is_told_the_nearest_names() -> None:
    with pytest.raises(ConfigError, match="no run `cats`; there is none below `runs` yet"):
        find_run("cats")
    made("cats-1")
    with pytest.raises(ConfigError, match="no run `cats`; nearest: 'cats-1'"):
        find_run("cats")


def test_runs_are_listed_oldest_first_and_latest_only_once() -> None:
    assert list_runs() == []
    made("b", "2026-01-01")
    made("a", "2026-01-02")
    Path("runs/not-a-run").mkdir()
    assert [run.name for run in list_runs()] == ["b", "a"]


def test_update_changes_only_what_is_named() -> None:
    run = made("a")
    run.update(state="failed", reason="磁盘")
    assert run.status() == {"format": 1, "state": "failed", "started": "2026-01-01", "reason": "磁盘"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": null}', '{"format": "one"}', "\ufeff{", "null"])
def test_damaged_status_is_a_model_error_that_names_the_file(text: str) -> None:
    run = made("a")
    run.status_file.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"`runs/a/run\.json` is damaged or missing"):
        run.status()


def test_newer_format_asks_for_a_newer_danlu() -> None:
    run = made("a")
    run.status_file.write_text('{"format": 2}')
    with pytest.raises(ModelError) as caught:
        run.status()
    assert str(caught.value) == (
        "`runs/a/run.json` has format 2, this danlu reads up to 1\n\nhint: install a newer danlu"
    )


def test_run_without_a_model_says_its_state() -> None:
    run = made("a")
    run.update(state="training")
    with pytest.raises(ModelError, match=r"`runs/a` has no model \(state: training\)"):
        run.model()


def test_history_leaves_out_an_unfinished_last_line() -> None:
    run = made("a")
    assert run.history() == []
    run.add_history({"epoch": 1})
    run.add_history({"epoch": 2})
    with open(run.history_file, "a") as file:
        file.write('{"epoch": 3, "lo')
    assert run.history() == [{"epoch": 1}, {"epoch": 2}]
    run.keep(run.history()[:1], 0)
    run.add_history({"epoch": 2})
    assert run.history() == [{"epoch": 1}, {"epoch": 2}]


def test_history_that_cannot_be_written_is_a_machine_error() -> None:
    run = made("a")
    run.history_file.mkdir()
    with pytest.raises(MachineError, match=r"cannot write `runs/a/history\.jsonl`: Is a directory"):
        run.add_history({"epoch": 1})


def test_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        create_run(name, "x").update(state="finished", started=name)
    (tmp_path / "runs" / "a" / "run.json").write_text("{")
    assert [run.name for run in list_runs()] == ["a", "b"]


def test_folder_in_the_place_of_latest_is_told_before_a_run_is_made(tmp_path: Path) -> None:
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    with pytest.raises(MachineError, match="is a folder, not the link to the newest run"):
        create_run("a", "x")
    assert not (tmp_path / "runs" / "a").exists()


def test_name_that_is_too_long_is_no_run() -> None:
    with pytest.raises(ConfigError, match="no run `nnn"):
        find_run("n" * 300)
