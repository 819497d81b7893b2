"""Several processes over one storage: kills, torn lines, and PostgreSQL."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeTrainings, plan_of, search_in

import danlu
from danlu import SearchSettings
from danlu.base.studies import Study, find_study
from danlu.tuning.plan import SearchPlan
from danlu.tuning.search import Search, Tried
from danlu.tuning.storage import open_storage, opened, place_of
from pictures import write_pictures

DANLU = [sys.executable, "-m", "danlu"]
SETTINGS = ["model.name=mlp", "training.epochs=9", "training.device=cpu"]
POSTGRESQL = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
needs_postgresql = pytest.mark.skipif(
    POSTGRESQL is None or shutil.which("runuser") is None, reason="no PostgreSQL server is installed"
)


def tried_in(study: Study) -> list[Tried]:
    plan = SearchPlan.from_json(study.status()["plan"])
    return Search(plan, open_storage(place_of(None, study.journal_file))).tried()


def workers_of(process: int) -> list[int]:
    """The worker processes that a search has now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"danlu.tuning.worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


@pytest.mark.slow
def test_two_workers_finish_one_study(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos")
    settings = {"model.name": "mlp", "training.epochs": 9}
    tuning = danlu.tune(photos, settings, name="a", search=SearchSettings(trials=12, workers=2))
    tried = [one for one in tried_in(tuning.study) if one.state != "lost"]
    assert len(tried) == tuning.trials == 12
    assert tuning.run is not None


@pytest.mark.kill
def test_search_survives_the_kill_of_any_worker(tmp_path: Path) -> None:
    """4 workers, SIGKILL at random moments, torn last lines: 0 finished trials lost, and the budget is reached."""
    photos = write_pictures(tmp_path / "photos")
    trials = 60
    log = open(tmp_path / "told", "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)
    words = [*DANLU, "tune", str(photos), *SETTINGS, "--workers", "4", "--trials", str(trials), "--name", "a"]
    process = subprocess.Popen(words, stderr=log, stdout=subprocess.DEVNULL, env={**os.environ})
    study = Study(tmp_path / "runs" / "studies" / "a")
    chance = random.Random(0)
    seen: dict[int, Any] = {}
    kills = 0
    until = time.time() + 400
    while process.poll() is None and time.time() < until:
        time.sleep(chance.uniform(0.05, 0.6))
        if not study.status_file.exists():
            continue
        seen |= {one.number: (one.state, one.scores) for one in tried_in(study) if one.state != "lost"}
        workers = workers_of(process.pid)
        if workers and kills < 10 and seen:
            os.kill(chance.choice(workers), signal.SIGKILL)
            kills += 1
            with open(study.journal_file, "ab") as file:  # as a writer that died in its midst
                file.write(b'{"op_code":6,"worker_id":"x","trial_id":1,"state":1,"val'[: chance.randint(1, 50)])
    process.wait(60)
    log.close()
    told = (tmp_path / "told").read_text(encoding="utf-8")
    ended = {one.number: (one.state, one.scores) for one in tried_in(study)}
    assert process.returncode == 0, told[-3000:]
    assert kills >= 5
    assert {number: ended.get(number) for number in seen} == seen
    assert sum(state != "lost" for state, _ in ended.values()) == trials
    assert "ended with SIGKILL; its trial is tried again" in told


def test_worker_that_keeps_dying_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from danlu.base.errors import MachineError
    from danlu.tuning import supervise
    from danlu.tuning.search import Budget

    monkeypatch.setattr(supervise.sys, "executable", shutil.which("false"))
    monkeypatch.setattr(supervise, "LOOK_SECONDS", 0.02)
    search = search_in(tmp_path, FakeTrainings())
    place = place_of(None, tmp_path / "journal.log")
    with pytest.raises(MachineError, match="after 6 others that were replaced"):
        supervise.run_workers(search, place, Budget(trials=5), 2, lambda: None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own on loopback; its URL."""
    if POSTGRESQL is None:
        pytest.skip("no PostgreSQL server is installed")
    home = tmp_path_factory.mktemp("postgresql")
    for folder in [home, *home.parents]:
        if folder == Path("/tmp") or folder == Path("/"):
            break
        folder.chmod(0o755)
    data = home / "data"
    data.mkdir()
    shutil.chown(data, "postgres")
    (home / "password").write_text("s3cret\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    make = [*as_user, str(POSTGRESQL / "initdb"), "-D", str(data), "-U", "danlu", "-A", "scram-sha-256"]
    made = subprocess.run([*make, f"--pwfile={home / 'password'}"], capture_output=True, text=True, cwd="/")
    assert made.returncode == 0, made.stderr
    listen = ["-h", "127.0.0.1", "-p", str(port), "-k", str(data)]
    log = open(home / "log", "w")  # noqa: SIM115 (as long as the server)
    process = subprocess.Popen([*as_user, str(POSTGRESQL / "postgres"), "-D", str(data), *listen], stderr=log, cwd="/")
    until = time.time() + 30
    while time.time() < until and "ready to accept connections" not in (home / "log").read_text():
        time.sleep(0.1)
    yield f"postgresql://danlu:s3cret@127.0.0.1:{port}/postgres"
    own = int((data / "postmaster.pid").read_text().split()[0])
    os.kill(own, signal.SIGINT)
    process.wait(30)
    log.close()


@pytest.mark.slow
@needs_postgresql
def test_two_workers_finish_one_study_in_postgresql(server: str, tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos")
    words = ["tune", str(photos), *SETTINGS, "--workers", "2", "--trials", "10", "--name", "pg", "--storage", server]
    done = subprocess.run([*DANLU, *words], capture_output=True, text=True, timeout=300, env={**os.environ})
    assert done.returncode == 0, done.stderr[-3000:]
    study = find_study("pg")
    assert study.status()["tried"] == 10
    assert not study.journal_file.exists()
    assert "storage: postgresql+pg8000://danlu:***@" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes(), path


@pytest.mark.slow
@needs_postgresql
def test_second_machine_joins_a_study_in_postgresql(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_pictures(tmp_path / "photos")
    settings = {"model.name": "mlp", "training.epochs": 9, "training.threads": 1}
    first = danlu.tune(photos, settings, name="both", search=SearchSettings(trials=3, storage=server))
    monkeypatch.setenv("DANLU_RUNS", str(tmp_path / "elsewhere"))
    second = danlu.tune(photos, settings, name="both", search=SearchSettings(trials=5, storage=server))
    assert (first.trials, second.trials) == (3, 5)
    assert first.run is not None
    assert second.run is None


@pytest.mark.slow
@needs_postgresql
def test_wrong_password_is_one_message_without_it(server: str, tmp_path: Path) -> None:
    from danlu.base.errors import MachineError

    place = place_of(server.replace("s3cret", "wr0ng"), tmp_path / "journal.log")
    with pytest.raises(MachineError) as caught:
        open_storage(place)
    assert "password authentication failed" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


@pytest.mark.slow
@needs_postgresql
def test_searches_with_one_seed_try_the_same_in_both_storages(server: str, tmp_path: Path) -> None:
    from danlu.tuning.search import Budget

    in_file = search_in(tmp_path)
    in_file.run(Budget(trials=10))
    plan = plan_of()
    with opened(place_of(server, tmp_path / "unused")) as storage:
        in_database = Search(plan, storage, FakeTrainings())  # type: ignore[arg-type]
        in_database.open([(plan.defaults, "defaults")])
        in_database.run(Budget(trials=10))
        found = [one.values for one in in_database.tried()]
    assert found == [one.values for one in in_file.tried()]
