"""How a service starts, stops, survives its workers and takes new bundles."""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bundles import made
from server import Server
from test_answers import picture

import danlu
from danlu.base.journal import Journal
from danlu.serving.deployment import Arm, Deployment, load_arm
from danlu.serving.lane import Limits
from danlu.serving.serve import ServeSettings, serve
from pictures import write_pictures

KEY = "a-key-of-some-length"


def keep_asking(server: Server, found: list[object], stop: threading.Event) -> None:
    """One client on a kept connection, until nothing listens any more; anything but an answer is noted."""
    with closing(server.connect()) as connection:
        while not stop.is_set():
            if connection.sock is None:
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return
            try:
                connection.request("POST", "/predict", picture(), {"Content-Type": "image/png"})
                response = connection.getresponse()
                response.read()
                found.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                found.append(repr(error))
                return


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_is_lost_while_the_service_stops(images: Path, tmp_path: Path, workers: int) -> None:
    found: list[object] = []
    stop = threading.Event()
    with Server([images], tmp_path, "--workers", workers) as server:
        clients = [threading.Thread(target=keep_asking, args=(server, found, stop)) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.15)
        ready = server.ask("GET", "/readyz")[0]
        code = server.process.wait(40)
        took = time.monotonic() - started
        stop.set()
        for client in clients:
            client.join()
    assert (code, ready, set(found)) == (0, 503, {200})
    assert len(found) > 50 and took < 32
    assert server.log.endswith("stopping: what was asked is answered; a second signal ends at once\nstopped\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "hanging"])
def test_worker_that_is_gone_is_replaced(images: Path, tmp_path: Path, number: signal.Signals) -> None:
    with Server([images], tmp_path, "--workers", 1) as server:
        (before,) = server.workers
        assert server.post(picture())[0] == 200
        os.kill(before, number)
        started = time.monotonic()
        assert server.post(picture())[0] == 200  # waits in the socket of the supervisor for the next worker
        assert time.monotonic() - started < 6
        (after,) = server.workers
        assert after != before
        assert "another takes its place" in server.log


def test_request_of_a_hanging_worker_ends_within_two_seconds(images: Path, tmp_path: Path) -> None:
    with Server([images], tmp_path, "--workers", 1) as server, closing(server.connect()) as connection:
        connection.request("GET", "/livez")
        connection.getresponse().read()
        os.kill(server.workers[0], signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises((http.client.HTTPException, OSError)):
            connection.request("GET", "/livez")
            connection.getresponse()
        assert time.monotonic() - started < 2


def test_workers_end_when_the_supervisor_is_killed_so_that_another_can_have_the_address(
    images: Path, tmp_path: Path
) -> None:
    with Server([images], tmp_path, "--workers", 2) as server:
        server.process.kill()
        server.process.wait(10)
        wait_for(lambda: not is_listened_on(server.port), 5)
        with Server([images], tmp_path, "--workers", 1, "--port", server.port) as another:
            assert another.post(picture())[0] == 200


def is_listened_on(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def test_every_route_but_life_and_readiness_needs_the_key(images: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n", encoding="utf-8")
    with Server([images], tmp_path, "--api-key-file", "key", "--workers", 1) as server:
        routes = [
            (method.upper(), path)
            for path, told in server.ask("GET", "/openapi.json", X_API_Key=KEY)[1]["paths"].items()
            for method in told
        ]
        routes += [("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/page/page.js"), ("GET", "/no")]
        assert ("POST", "/predict") in routes and ("GET", "/metrics") in routes
        for method, path in routes:
            status = server.ask(method, path, b"{}" if method == "POST" else None)[0]
            assert (status == 200) if path in ("/livez", "/readyz") else (status == 401), path
        assert server.post(picture(), X_API_Key=KEY)[0] == 200
        assert server.post(picture(), Authorization=f"Bearer {KEY}")[0] == 200
        assert server.post(picture(), X_API_Key=KEY[:-1])[0] == 401
        assert server.ask("GET", "/", Authorization="Basic " + "dTphLWtleS1vZi1zb21lLWxlbmd0aA==")[0] == 200
        assert "Basic" in server.ask("GET", "/")[2]["www-authenticate"]
        assert KEY not in server.log
        assert KEY not in Path(f"/proc/{server.workers[0]}/cmdline").read_text(encoding="utf-8")


def test_bundle_is_replaced_while_it_serves_and_a_bad_one_is_not(images: Path, home: Path, tmp_path: Path) -> None:
    place = shutil.copytree(images, tmp_path / "bundle")
    with Server([place], tmp_path, "--workers", 1) as server:
        first = server.post(picture())[1]["model"]
        mark = (place / "bundle.json").read_bytes()
        (place / "new.json").write_bytes(mark[:-9])
        os.replace(place / "new.json", place / "bundle.json")
        wait_for(lambda: "goes on" in server.log)
        assert server.post(picture())[1]["model"] == first
        run = danlu.train(home / "images", {"training.epochs": 1, "training.threads": 1, "data.image_size": 16})
        shutil.copytree(danlu.export(run), tmp_path / "fresh")
        os.rename(place, tmp_path / "old")
        os.rename(tmp_path / "fresh", place)
        wait_for(lambda: server.post(picture())[1]["model"] != first)
        assert "replaces" in server.log
        assert 'outcome="refused"} 1.0' in server.ask("GET", "/metrics")[1]


def test_last_answers_before_a_stop_are_in_the_journal(images: Path, tmp_path: Path) -> None:
    with Server([images], tmp_path, "--workers", 1, "--drain-delay", 0) as server:
        ids = [server.post(picture())[1]["id"] for _ in range(20)]
    assert [row["id"] for row in Journal(tmp_path / "journal").rows()] == ids


def test_workers_say_who_they_are_where_there_are_several(images: Path, tmp_path: Path) -> None:
    place = shutil.copytree(images, tmp_path / "bundle")
    with Server([place], tmp_path, "--workers", 2) as server:
        wait_for(lambda: len(server.workers) == 2 and server.post(picture())[0] == 200)
        time.sleep(1)  # until both can answer
        (place / "new.json").write_bytes((place / "bundle.json").read_bytes()[:-9])
        os.replace(place / "new.json", place / "bundle.json")
        wait_for(lambda: server.log.count("goes on") == 2)
        assert all(f"worker {process}: warning: images@" in server.log for process in server.workers)


def test_journal_that_cannot_be_written_fails_no_request(images: Path, tmp_path: Path) -> None:
    with Server([images], tmp_path, "--workers", 1) as server:
        (worker,) = server.workers
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))  # as if the disk were full
        assert [server.post(picture())[0] for _ in range(5)] == [200] * 5
        wait_for(lambda: "danlu_journal_lost_total 5.0" in server.ask("GET", "/metrics")[1])
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        status, last = server.post(picture())
        assert status == 200 and server.workers == [worker]
    assert [row["id"] for row in Journal(tmp_path / "journal").rows()] == [last["id"]]


@pytest.mark.slow
def test_worker_that_answers_goes_on_where_no_other_can_be_started(images: Path, tmp_path: Path) -> None:
    """Its bundle was removed, and comes back."""
    place = shutil.copytree(images, tmp_path / "bundle")
    with Server([place], tmp_path, "--workers", 2) as server:
        wait_for(lambda: len(server.workers) == 2 and server.post(picture())[0] == 200)
        time.sleep(1)  # until both can answer
        first, second = server.workers
        os.rename(place, tmp_path / "gone")
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: "the next is started in 5 s" in server.log, 30)
        assert first in server.workers and server.post(picture())[0] == 200
        os.rename(tmp_path / "gone", place)
        wait_for(lambda: len(server.workers) == 2, 30)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: first not in server.workers and server.post(picture())[0] == 200, 30)


def test_reload_that_is_asked_for_while_a_worker_starts_kills_none(images: Path, tmp_path: Path) -> None:
    with Server([images], tmp_path, "--workers", 2) as server:
        (first, _) = server.workers
        os.kill(first, signal.SIGKILL)
        for _ in range(20):
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        wait_for(lambda: len(server.workers) == 2 and server.post(picture())[0] == 200)
        assert "SIGHUP" not in server.log and server.log.count(" died ") == 1


def test_damaged_file_beside_the_same_mark_is_said(images: Path, tmp_path: Path) -> None:
    place = shutil.copytree(images, tmp_path / "bundle")
    damaged = shutil.copytree(images, tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes((damaged / "model.onnx").read_bytes() + b"x")
    with Server([place], tmp_path, "--workers", 1) as server:
        os.rename(place, tmp_path / "old")
        os.rename(damaged, place)
        wait_for(lambda: "is not what the bundle was made with" in server.log)
        assert server.post(picture())[0] == 200


@pytest.fixture(scope="module")
def fewer(home: Path) -> Path:
    """A bundle of two of the three classes."""
    pictures = write_pictures(home / "two classes")
    shutil.rmtree(pictures / "blue")
    return made(home, "fewer", pictures, **{"model.name": "mlp", "data.image_size": 16})


def put(bundle: Path, place: Path) -> None:
    """As a deployment does: the new folder in place of the old one."""
    if place.exists():
        os.rename(place, place.with_name(f"{place.name} before {time.monotonic_ns()}"))
    shutil.copytree(bundle, place)


def test_bundle_of_other_classes_is_taken_alone_and_not_beside_another(
    images: Path, fewer: Path, tmp_path: Path
) -> None:
    for number, beside in enumerate((["--shadow", images], [])):
        folder = tmp_path / str(number)
        put(images, place := folder / "bundle")
        with Server([place], folder, *beside, "--workers", 1) as server:
            put(fewer, place)
            if beside:
                wait_for(lambda found=server: "has other classes than what is served beside it" in found.log)
                assert server.post(picture())[1]["model"].startswith("images@")
            else:
                wait_for(lambda found=server: found.post(picture())[1]["model"].startswith("fewer@"))
                assert len(server.post(picture())[1]["probabilities"]) == 2
                assert "has other classes than images@" in server.log


def test_two_bundles_that_share_their_users_get_other_classes_together(
    images: Path, fewer: Path, tmp_path: Path
) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        put(images, place)

    def classes() -> set[int]:
        return {len(server.post(picture(), X_Sticky_Key=str(user))[1].get("probabilities", ())) for user in range(20)}

    with Server(places, tmp_path, "--split", "50/50", "--workers", 1) as server:
        put(fewer, places[0])
        told = f"it is taken as soon as `{places[1]}` is replaced by its like"
        wait_for(lambda: told in server.log)
        assert classes() == {3}
        put(fewer, places[1])
        wait_for(lambda: server.log.count("fewer@") >= 4)
        assert classes() == {2}
        assert server.log.count(" replaces images@") == 2


@pytest.mark.parametrize(
    ("bundles", "served", "told"),
    [
        ("fewer fewer fewer", "fewer fewer fewer", "replaces images@"),
        ("fewer images fewer", "images images images", "has other classes than what is served beside it"),
        ("fewer fewer images", "images images images", "has other classes than what is served beside it"),
        ("fewer fewer damaged", "images images images", "is not what the bundle was made with"),
        ("fewer fewer nothing", "images images images", "goes on"),
        ("fewer other images", "images other images", "has other classes than what is served beside it"),
        ("other damaged images", "other images images", "has other classes than what is served beside it"),
        ("texts texts texts", "images images images", "reads texts now, it read images before"),
    ],
)
def test_bundles_of_two_arms_and_a_shadow_are_replaced_together_or_not(
    request: pytest.FixtureRequest,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    bundles: str,
    served: str,
    told: str,
) -> None:
    places = [tmp_path / name for name in "abc"]

    def lay(name: str, place: Path) -> None:
        if name == "nothing":
            return shutil.rmtree(place)
        put(request.getfixturevalue("fewer" if name == "damaged" else name), place)
        if name == "damaged":
            (place / "model.onnx").write_bytes(b"x")
        return None

    async def reloaded() -> tuple[bool, list[str]]:
        limits = Limits(threads=1)
        first, second, shadow = [
            await load_arm(place, share, limits) for place, share in zip(places, (0.5, 0.5, 0), strict=True)
        ]
        deployment = Deployment([first, second], limits, shadow)
        for name, place in zip(bundles.split(), places, strict=True):
            if name != "images":
                lay(name, place)
        went_well = await deployment.reload()
        assert deployment.shadow is not None
        return went_well, [arm.name for arm in (*deployment.arms, deployment.shadow)]

    for place in places:
        put(request.getfixturevalue("images"), place)
    went_well, names = asyncio.run(reloaded())
    assert names == served.split() and went_well == (bundles == "fewer fewer fewer")
    assert told in capsys.readouterr().err


def test_worker_that_starts_between_two_replacements_says_so(
    images: Path, fewer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def started() -> None:
        limits = Limits(threads=1)
        Deployment([await load_arm(place, 0.5, limits) for place in (images, fewer)], limits)

    asyncio.run(started())
    assert f"not all of these have the same classes: `{images}`, `{fewer}`" in capsys.readouterr().err


def test_bundle_that_is_replaced_again_while_it_is_read_is_left_for_the_next_time(
    images: Path, fewer: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is served."""
    place, later = tmp_path / "a", [fewer]

    async def load(*of: Any) -> Arm:
        if later:
            put(later.pop(), place)
        return await load_arm(*of)

    async def reloaded() -> list[tuple[bool, str]]:
        limits = Limits(threads=1)
        deployment = Deployment([await load_arm(place, 1.0, limits)], limits)
        monkeypatch.setattr("danlu.serving.deployment.load_arm", load)
        put(other, place)
        return [(await deployment.reload(), deployment.arms[0].name) for _ in range(2)]

    put(images, place)
    assert asyncio.run(reloaded()) == [(False, "images"), (True, "fewer")]


@pytest.fixture(scope="module")
def other(home: Path) -> Path:
    """Another bundle of the same classes."""
    return made(home, "other", home / "images", **{"model.name": "mlp", "data.image_size": 16, "training.epochs": 1})


def wait_for(is_so: object, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_two_bundles_share_their_users(images: Path, home: Path, tmp_path: Path) -> None:
    run = danlu.train(home / "images", {"training.epochs": 1, "training.threads": 1, "data.image_size": 16}, name="b")
    other = danlu.export(run)
    with Server([images, other.resolve()], tmp_path, "--split", "50/50", "--workers", 2) as server:
        first = {str(user): server.post(picture(), X_Sticky_Key=str(user))[1]["model"] for user in range(20)}
        again = {str(user): server.post(picture(), X_Sticky_Key=str(user))[1]["model"] for user in range(20)}
        assert first == again
        assert len(set(first.values())) == 2
    keys = {row["key"] for row in Journal(tmp_path / "journal").rows()}
    assert len(keys) == 20 and not keys & set(first), "whose answers they are is not kept, only that they are alike"


def test_shadow_sees_what_is_asked_and_answers_nobody(images: Path, home: Path, tmp_path: Path) -> None:
    run = danlu.train(home / "images", {"training.epochs": 1, "training.threads": 1, "data.image_size": 16}, name="b")
    other = danlu.export(run).resolve()
    with Server([images], tmp_path, "--shadow", other, "--workers", 1) as server:
        told = server.ask("GET", "/model/info")[1]
        answers = [server.post(picture())[1] for _ in range(5)]
    rows = list(Journal(tmp_path / "journal").rows())
    shadowed = [row for row in rows if row.get("shadow")]
    assert {answer["model"] for answer in answers} == {f"images@{told['models'][0]['version']}"}
    assert {row["model"] for row in shadowed} == {f"b@{told['shadow']['version']}"}
    assert sorted(row["id"] for row in shadowed) == sorted(answer["id"] for answer in answers)
    assert len(rows) == 10


def test_slow_and_oversized_headers_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection((server.host, server.port), 5) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    with socket.create_connection((server.host, server.port), 20) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost:")
        started = time.monotonic()
        assert connection.recv(100) == b""
        assert 8 < time.monotonic() - started < 13


def test_answer_is_written_whole(server: Server) -> None:
    """A process killed between head and body would leave half an answer, which no proxy can ask for again."""
    body = picture()
    asked = (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    with socket.create_connection((server.host, server.port), 5) as connection:
        for _ in range(50):
            connection.sendall(asked)
            told, _, rest = connection.recv(65_536).partition(b"\r\n\r\n")
            assert f"content-length: {len(rest)}".encode() in told


# What `serve` refuses before it listens


def test_address_that_others_reach_needs_a_key(images: Path) -> None:
    with pytest.raises(danlu.ConfigError, match=r"`0\.0\.0\.0` can be reached by others"):
        serve([images], ServeSettings(host="0.0.0.0"))


@pytest.mark.parametrize(("split", "told"), [((90.0,), "1 shares for 2"), ((1.0, 0.0), "share above 0")])
def test_shares_are_one_for_each_bundle(images: Path, split: tuple[float, ...], told: str) -> None:
    with pytest.raises(danlu.ConfigError, match=told):
        serve([images, images], ServeSettings(split=split))


def test_bundles_of_other_classes_do_not_serve_together(images: Path, texts: Path) -> None:
    with pytest.raises(danlu.ModelError, match="has other classes, or reads something else"):
        serve([images, texts])


@pytest.mark.parametrize("settings", [ServeSettings(deadline=0), ServeSettings(drain_delay=-1)])
def test_times_that_cannot_be_are_refused(images: Path, settings: ServeSettings) -> None:
    with pytest.raises(danlu.ConfigError, match="more than 0 seconds"):
        serve([images], settings)


@pytest.mark.parametrize("key", ["short", "ключ-ключ-ключ", "a" * 300])
def test_key_that_is_none_is_refused(images: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(key, encoding="utf-8")
    with pytest.raises(danlu.ConfigError, match="an API key has 8 to 256"):
        serve([images], ServeSettings(api_key_file=tmp_path / "key"))


def test_port_in_use_and_damaged_bundle_are_told(images: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = started(images, "--port", taken.getsockname()[1], folder=tmp_path)
    assert told.returncode == 5 and "cannot be listened on" in told.stderr
    place = shutil.copytree(images, tmp_path / "bundle")
    (place / "model.onnx").write_bytes(b"x")
    told = started(place, "--port", 0, folder=tmp_path)
    assert told.returncode == 4 and told.stderr.count("is not what the bundle was made with") >= 1
    assert "Traceback" not in told.stderr


def started(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "danlu", "serve", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
