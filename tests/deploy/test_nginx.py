"""Two replicas behind a real nginx with the configuration of deploy/nginx: what is lost when replicas go and come."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from proxy import PROGRAM, Nginx, free_port
from server import Server
from test_answers import picture
from test_life import is_listened_on, wait_for

from danlu.serving.bodies import IMAGE_LIMIT

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")
KEY = "a-key-of-some-length"
CLIENTS = 10
PAUSE = 0.005  # leaves the machine something to start replicas with
COLORS = {"红": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 210)}


@dataclass
class Cluster:
    """nginx and what is behind it. `replicas` changes when one is started anew."""

    bundle: Path
    folder: Path
    ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    replicas: list[Server] = field(default_factory=list)

    def start(self, port: int) -> Server:
        place = self.folder / str(port)
        place.mkdir(exist_ok=True)
        key = self.folder / "key"
        key.write_text(KEY, encoding="ascii")
        return Server([self.bundle], place, "--port", port, "--workers", 1, "--api-key-file", key).__enter__()

    def start_again(self, number: int) -> None:
        """In the place of one that ended."""
        self.replicas[number] = self.start(self.ports[number])

    def kill(self, number: int, held: float) -> None:
        """All processes of a replica, with no time to end anything; before that, what they answer is held up."""
        replica = self.replicas[number]
        replica.process.send_signal(signal.SIGSTOP)  # so that it starts no other worker meanwhile
        processes = [*replica.workers, replica.process.pid]
        if held:
            os.kill(processes[0], signal.SIGSTOP)
            time.sleep(held)
        for process in processes:
            os.kill(process, signal.SIGKILL)
        replica.process.wait(10)
        wait_for(lambda: not is_listened_on(replica.port))  # the workers are nobody's children now


@pytest.fixture(scope="module")
def cluster(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(images, tmp_path_factory.mktemp("replicas"))
    try:
        for port in found.ports:
            found.replicas.append(found.start(port))
        yield found
    finally:
        for replica in found.replicas:
            replica.__exit__(None, None, None)


@pytest.fixture(scope="module")
def nginx(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx"), cluster.ports) as found:
        yield found


def ask(nginx: Nginx, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(http.client.HTTPConnection(nginx.host, nginx.port, timeout=30)) as connection:
        connection.request(method, path, body, told)
        response = connection.getresponse()
        return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}


class Load:
    """`with Load(nginx) as load:` clients that ask all the time, each on a kept connection. `wrong`: whatever was not
    the right answer; `seconds`: how long each right one took."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx, self._ends = nginx, threading.Event()
        self.wrong: list[str] = []
        self.seconds: list[float] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.3)
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        label, color = list(COLORS.items())[number % len(COLORS)]
        body = picture(color)
        headers = {"Content-Type": "image/png", "X-API-Key": KEY}
        connection = http.client.HTTPConnection(self._nginx.host, self._nginx.port, timeout=30)
        turn = 0
        while not self._ends.is_set():
            turn += 1
            id, started = f"{number}-{turn}", time.monotonic()
            try:
                connection.request("POST", "/predict", body, {**headers, "X-Request-Id": id})
                response = connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                connection.close()
                continue
            if response.status != 200:
                self.wrong.append(f"{response.status} {data[:200]!r}")
            elif (answer := json.loads(data))["class"] != label or answer["id"] != id:
                self.wrong.append(f"{id} {label}: {answer}")
            else:
                self.seconds.append(time.monotonic() - started)
            time.sleep(PAUSE)
        connection.close()


def answered(replica: Server) -> float:
    """How many requests for answers a replica counted since it started."""
    page = replica.ask("GET", "/metrics", X_API_Key=KEY)[1]
    rows = [row for row in page.splitlines() if row.startswith("danlu_requests_total") and '"/predict"' in row]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_nothing_is_lost_while_replicas_are_restarted_one_after_the_other(
    cluster: Cluster, nginx: Nginx, rounds: int
) -> None:
    with Load(nginx) as load:
        for number in (0, 1) * rounds:
            assert cluster.replicas[number].stop() == 0
            cluster.start_again(number)
    assert load.wrong == []
    assert len(load.seconds) > 1000
    assert max(load.seconds) < 10  # longer, and nginx would have given up


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_nothing_is_lost_when_a_replica_is_killed_and_it_is_asked_again_when_it_is_back(
    cluster: Cluster, nginx: Nginx, kills: int
) -> None:
    with Load(nginx) as load:
        for number in range(kills):
            cluster.kill(number % 2, held=0.0 if number % 2 else 0.2)  # at once, or surely in the middle of requests
            cluster.start_again(number % 2)
            wait_for(lambda: answered(cluster.replicas[number % 2]) > 0)  # noqa: B023 - nginx leaves it alone for 2 s
    assert load.wrong == []
    assert "while reading response header from upstream" in nginx.log  # there were requests it had begun


def test_key_and_id_of_a_request_are_passed_on(nginx: Nginx) -> None:
    body = picture()
    status, data, headers = ask(nginx, "POST", "/predict", body, X_API_Key=KEY, X_Request_Id="mine-1")
    assert status == 415  # it has no type: asked, and refused by the service
    assert json.loads(data)["error"]["id"] == headers["x-request-id"] == "mine-1"
    kind = {"Content_Type": "image/png"}
    assert ask(nginx, "POST", "/predict", body, **kind)[0] == 401
    assert ask(nginx, "POST", "/predict", body, X_API_Key=KEY[:-1], **kind)[0] == 401
    assert ask(nginx, "POST", "/predict", body, Authorization=f"Bearer {KEY}", **kind)[0] == 200
    no_id = json.loads(ask(nginx, "POST", "/predict", body, X_API_Key=KEY, X_Request_Id="a b", **kind)[1])["id"]
    assert len(no_id) == 32  # nginx made it, and both tries would have had it


def test_body_limit_is_the_services(nginx: Nginx) -> None:
    most = ask(nginx, "POST", "/predict", bytes(IMAGE_LIMIT), X_API_Key=KEY, Content_Type="image/png")
    assert (most[0], json.loads(most[1])["error"]["code"]) == (422, "unreadable")  # it reached the service
    more = ask(nginx, "POST", "/predict", bytes(IMAGE_LIMIT + 1), X_API_Key=KEY, X_Request_Id="big")
    assert (more[0], json.loads(more[1])["error"]["code"]) == (413, "too_large")
    assert json.loads(more[1])["error"]["id"] == more[2]["x-request-id"] == "big"
    assert "content-security-policy" not in more[2]  # nginx said it, in the service's words
    tensor = ask(nginx, "POST", "/v2/models/images/infer", bytes(IMAGE_LIMIT + 1), X_API_Key=KEY)
    assert (tensor[0], json.loads(tensor[1])) == (413, {"error": "the body is larger than 10 MiB"})


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/x/../metrics", "/metrics?a=b", "/docs", "/openapi.json"],
)
def test_counters_and_documentation_are_not_public(nginx: Nginx, path: str) -> None:
    status, body, _ = ask(nginx, "GET", path, X_API_Key=KEY)
    assert status == 404
    assert b"nginx" in body  # and not the service


def test_page_and_life_can_be_reached(nginx: Nginx) -> None:
    assert ask(nginx, "GET", "/livez")[0] == ask(nginx, "GET", "/", X_API_Key=KEY)[0] == 200
    assert ask(nginx, "GET", "/model/info", X_API_Key=KEY)[0] == 200


def test_both_replicas_restarted_at_once_are_asked_as_soon_as_one_is_back(cluster: Cluster, nginx: Nginx) -> None:
    for replica in cluster.replicas:
        replica.process.send_signal(signal.SIGTERM)
    for replica in cluster.replicas:
        replica.process.wait(40)
    for _ in range(8):  # nginx leaves both alone from now on
        status, body, headers = ask(nginx, "GET", "/readyz")
    assert (status, json.loads(body)["error"]["code"], headers["retry-after"]) == (503, "gone", "1")
    assert json.loads(ask(nginx, "GET", "/v2/health/ready")[1]) == {"error": "no replica answers"}
    cluster.start_again(0)
    ask_at = time.monotonic()
    assert ask(nginx, "GET", "/readyz")[0] == 200
    assert time.monotonic() - ask_at < 1


def test_lines_for_tls_work_as_the_comments_say(cluster: Cluster, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=danlu.example.com -keyout key.pem -out crt.pem"
    subprocess.run(["openssl", *made.split()], cwd=tmp_path, check=True, capture_output=True)
    nginx = Nginx(tmp_path, cluster.ports)
    secure = free_port()
    text = (tmp_path / "danlu.conf").read_text(encoding="utf-8")
    text = text.replace(f"    listen 127.0.0.1:{nginx.port};\n", "", 1)
    text = re.sub(r"(?m)^    # (listen 443|ssl_|add_header)", r"    \1", text)
    text = re.sub(r"(?m)^# (server \{|    .*;)$|^# \}$", lambda found: found[1] or "}", text)
    text = text.replace("listen 443 ", f"listen 127.0.0.1:{secure} ").replace(
        "listen 80;", f"listen 127.0.0.1:{nginx.port};"
    )
    text = re.sub(r"(ssl_certificate +)\S+;", rf"\1{tmp_path}/crt.pem;", text)
    text = re.sub(r"(ssl_certificate_key +)\S+;", rf"\1{tmp_path}/key.pem;", text)
    (tmp_path / "danlu.conf").write_text(text, encoding="utf-8")
    with nginx:
        status, _, headers = ask(nginx, "POST", "/predict?a=1", b"x", Host="danlu.example.com")
        assert (status, headers["location"]) == (308, "https://danlu.example.com/predict?a=1")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "crt.pem"))
        trusted.check_hostname = False
        with closing(http.client.HTTPSConnection(nginx.host, secure, timeout=10, context=trusted)) as connection:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            assert (answer.status, "max-age" in (answer.getheader("Strict-Transport-Security") or "")) == (200, True)
