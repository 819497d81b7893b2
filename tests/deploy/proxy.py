"""A real nginx with the configuration we ship, of which the test changes addresses and nothing else."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "danlu.conf"
PROGRAM = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
LISTENS = "listen 80;"
REPLICA = r"server (127\.0\.0\.1:\d+) "
AROUND = """daemon off;
user {user};
worker_processes 2;
pid nginx.pid;
error_log error.log notice;
events {{ worker_connections 512; }}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include danlu.conf;
}}
"""


def free_port() -> int:
    """One below those the system gives to connections, so that it is still free when a replica starts again."""
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                continue
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _given:
                _given.add(port)
                return port
    raise RuntimeError("no port is free")


_given: set[int] = set()


class Nginx:
    """`with Nginx(folder, [port, port]) as nginx: nginx.port`. It runs in `folder`, where its logs are."""

    def __init__(self, folder: Path, replicas: Sequence[int]) -> None:
        self.folder, self.host, self.port = folder, "127.0.0.1", free_port()
        text = CONFIGURATION.read_text(encoding="utf-8")
        named = list(dict.fromkeys(re.findall(REPLICA, text)))
        if len(named) != len(replicas) or text.count(LISTENS) < 1:
            raise RuntimeError(f"{CONFIGURATION.name} names {named} and is to have {len(replicas)} replicas")
        for name, port in zip(named, replicas, strict=True):
            text = text.replace(f"server {name} ", f"server 127.0.0.1:{port} ")
        text = text.replace(LISTENS, f"listen 127.0.0.1:{self.port};", 1)
        (folder / "danlu.conf").write_text(text, encoding="utf-8")
        around = AROUND.format(user=pwd.getpwuid(os.getuid()).pw_name)
        (folder / "nginx.conf").write_text(around, encoding="utf-8")

    def __enter__(self) -> Nginx:
        command = [str(PROGRAM), "-p", str(self.folder), "-e", "error.log", "-c", "nginx.conf"]
        with open(self.folder / "said", "wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        ends = time.monotonic() + 10
        while True:
            with socket.socket() as trial:
                if trial.connect_ex((self.host, self.port)) == 0:
                    return self
            if self.process.poll() is not None or time.monotonic() > ends:
                self.process.kill()
                raise RuntimeError(f"nginx did not start:\n{(self.folder / 'said').read_text()}{self.log}")
            time.sleep(0.02)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)

    @property
    def log(self) -> str:
        return (self.folder / "error.log").read_text(encoding="utf-8", errors="replace")
