"""Requests a second of `danlu serve`, 28 × 28 pixels and an MLP, beside the tutorial's handler and others.

Targets: with everything on (journal, counters, limits) at least 3 times the tutorial's handler with pixels in JSON, and
5 times with the bytes of an image; at least 0.8 of what one core could do if HTTP, decoding and the model, each
measured alone, followed each other without a gap; at 70 % of that load 99 % of the answers within 5 times what half of
them take at 2 %; the first right answer a second after the start. Load: wrk on loopback, 16 connections;
for times at a given load `load.py`. Server and load have a core each; then danlu again with a worker on every core.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import report
from PIL import Image
from startup import danlu_command

import danlu
from danlu.base.machine import available_cores

CONNECTIONS = 16
SECONDS, WARM_UP = 5, 1
TUTORIAL_TARGET, RAW_TARGET, SHARE_TARGET = 3.0, 5.0, 0.8
SERVER_CORE, LOAD_CORE = "0", "1"
LIGHT, LOAD, TIMES_TARGET, START_TARGET = 0.02, 0.7, 5.0, 1.0
TUTORIAL = "tutorial: FastAPI, PyTorch"
JSON, PNG = "application/json", "image/png"
PINNED = ("bare: Starlette, onnxruntime", "danlu, pixels", "danlu, PNG")
CLOCK = """
import json, sys, time
begun = last = time.perf_counter()
gaps = []
while last - begun < float(sys.argv[1]):
    now = time.perf_counter()
    if now - last > 0.0002:
        gaps.append((last - begun, now - last))
    last = now
print(json.dumps(gaps))
"""


def main() -> None:
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--litserve", type=Path, help="python with litserve and onnxruntime; without it it is left out")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None or available_cores() < 2:
        sys.exit("this benchmark needs wrk and two cores")
    seconds = 1 if arguments.quick else SECONDS
    facts = report.start_facts(arguments)
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        os.environ["DANLU_RUNS"] = str(folder / "runs")
        run = danlu.train("digits", {"model.name": "mlp", "data.image_size": 28, "training.epochs": 3})
        bundle = danlu.export(run).resolve()
        pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
        raw = png(pixels)
        in_json = json.dumps({"pixels": pixels.tolist()}).encode()
        peers = report.HERE / "peers"
        serve = [danlu_command(), "serve", bundle, "--journal", folder / "journal"]
        ways: dict[str, tuple[list[Any], bytes, str]] = {
            TUTORIAL: ([sys.executable, peers / "serve_tutorial.py", run.folder.resolve()], in_json, JSON),
            "bare: Starlette, onnxruntime": ([sys.executable, peers / "serve_bare.py", bundle], in_json, JSON),
            **(
                {"LitServe, onnxruntime": ([arguments.litserve, peers / "serve_litserve.py", bundle], in_json, JSON)}
                if arguments.litserve
                else {}
            ),
            "danlu, pixels": ([*serve, "--workers", 1, "--port"], in_json, JSON),
            "danlu, PNG": ([*serve, "--workers", 1, "--port"], raw, PNG),
            "danlu, pixels, all cores": ([*serve, "--port"], in_json, JSON),
            "danlu, PNG, all cores": ([*serve, "--port"], raw, PNG),
        }
        if not arguments.litserve:
            report.say("no --litserve: it is left out")
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for round_ in range(arguments.rounds):
            for way, (command, body, kind) in ways.items():
                is_pinned = "all cores" not in way
                with started(command, folder, is_pinned) as address:
                    load(address, body, kind, WARM_UP, folder, is_pinned)
                    found[way].append(load(address, body, kind, seconds, folder, is_pinned))
                    if is_pinned:
                        found[way][-1] |= timed(address, kind, found[way][-1]["per_second"], seconds, folder)
                report.say(f"round {round_ + 1}/{arguments.rounds}   {way}   {found[way][-1]}")
        http = [alone(serve, folder, seconds) for _ in range(arguments.rounds)]
        gaps = [standing_still(seconds) for _ in range(arguments.rounds)]
        starts = [start_seconds([*serve, "--port"], folder, raw) for _ in range(arguments.rounds)]
        costs = parts(bundle, pixels, raw)
    tutorial = statistics.median(one["per_second"] for one in found[TUTORIAL])
    costs["http"] = 1 / statistics.median(http)
    report.publish(
        arguments,
        "serving",
        "Requests a second of the service",
        facts,
        [row(way, samples, tutorial, costs) for way, samples in found.items()],
        {"requests": found, "http": http, "costs": costs, "starts": starts, "gaps": gaps},
        [
            f"wrk, {CONNECTIONS} connections, {seconds} s; server and wrk on a core each, but for `all cores`",
            "microseconds alone, on one core: " + ", ".join(f"{name} {1e6 * cost:.0f}" for name, cost in costs.items()),
            "÷ X_max: of 1 / (HTTP + decoding + model); HTTP is a request that needs neither; the model alone is asked"
            " for one example, in the service for all that came in a turn of its loop",
            f"p50 at {LIGHT:.0%} and p99 at {LOAD:.0%} of the requests a second in the second column, coming at random;"
            " `of a quarter second` is the middle one of the p99 of each quarter of a second: a machine that"
            " stands still now and then does not change it",
            "a server that takes the same for every request, stands still as a loop that only reads the clock did while"
            " another had the other core, and has no other delay: p99 at 70 %, ms: "
            + ", ".join(f"{way} {report.spread(floors(found[way], gaps, seconds), '.2f')}" for way in PINNED),
            f"start to the first right answer, s: {report.spread(starts, '.2f')}",
            f"targets: {TUTORIAL_TARGET:g} times the tutorial with pixels, {RAW_TARGET:g} with PNG,"
            f" {SHARE_TARGET:g} of X_max, p99 at most {TIMES_TARGET:g} times p50, {START_TARGET:g} s",
        ],
    )


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@contextmanager
def started(command: list[Any], folder: Path, is_pinned: bool) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pinned = ["taskset", "-c", SERVER_CORE] if is_pinned else []
    words = [str(word) for word in (*pinned, *command, port)]
    process = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            with suppress(ProcessLookupError):  # LitServe leaves processes behind
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/none").close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} did not start")


def load(address: str, body: bytes, kind: str, seconds: int, folder: Path, is_pinned: bool) -> dict[str, float]:
    (folder / "body").write_bytes(body)
    script = folder / "post.lua"
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "{kind}"\n'
        f'local file = io.open("{folder / "body"}", "rb")\nwrk.body = file:read("*a")\n',
        encoding="utf-8",
    )
    return wrk(f"{address}/predict", seconds, is_pinned, "-s", str(script))


def wrk(url: str, seconds: int, is_pinned: bool, *more: str) -> dict[str, float]:
    pinned = ["taskset", "-c", LOAD_CORE] if is_pinned else []
    command = [*pinned, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *more, url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", told)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    if p99 is None or rate is None:
        raise RuntimeError(told)
    return {"per_second": float(rate[1]), "p99_ms": float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]]}


def timed(address: str, kind: str, most: float, seconds: int, folder: Path) -> dict[str, float]:
    """Milliseconds at 2 % and at 70 % of the most that was answered."""
    port = address.rsplit(":", 1)[1]
    found = {}
    for name, rate in (("light", LIGHT * most), ("loaded", LOAD * most)):
        words = [sys.executable, report.HERE / "load.py", port, folder / "body", kind, rate, seconds, CONNECTIONS]
        command = ["taskset", "-c", LOAD_CORE, *map(str, words)]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        found |= {f"{key.removesuffix('_ms')}_{name}_ms": told[key] for key in ("p50_ms", "p99_ms", "p99_quarter_ms")}
    return found


def start_seconds(command: list[Any], folder: Path, raw: bytes) -> float:
    """From the command to an answer with a class."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begun = time.perf_counter()
    words = [str(word) for word in (*command, port)]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", raw, {"Content-Type": PNG})
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    if "class" in json.load(answer):
                        return time.perf_counter() - begun
            except OSError:
                if time.perf_counter() - begun > 60:
                    raise
                time.sleep(0.01)
    finally:
        process.terminate()
        process.wait()


def standing_still(seconds: float) -> list[tuple[float, float]]:
    """When the server's core did nothing, and for how long, while both cores were busy reading the clock."""
    begun = [
        subprocess.Popen(["taskset", "-c", core, sys.executable, "-c", CLOCK, str(seconds)], stdout=subprocess.PIPE)
        for core in (SERVER_CORE, LOAD_CORE)
    ]
    told = [process.communicate()[0] for process in begun]
    found: list[tuple[float, float]] = json.loads(told[0])
    return found


def floors(samples: list[dict[str, float]], gaps: list[list[tuple[float, float]]], seconds: float) -> list[float]:
    """Milliseconds at 99 % of a server without a delay of its own, at 70 % of each sample's requests a second."""
    return [floor(one["per_second"], own, seconds) for one, own in zip(samples, gaps, strict=True)]


def floor(most: float, gaps: list[tuple[float, float]], seconds: float) -> float:
    rng, now, free, taken = random.Random(0), 0.0, 0.0, []
    ahead = [*gaps, (float("inf"), 0.0)]
    while (now := now + rng.expovariate(LOAD * most)) < seconds:
        begun = max(now, free)
        free = begun + 1 / most
        while ahead[0][0] < free:
            start, length = ahead.pop(0)
            free += max(0.0, start + length - max(start, begun))
        taken.append(free - now)
    return 1000 * sorted(taken)[int(0.99 * len(taken))]


def alone(serve: list[Any], folder: Path, seconds: int) -> float:
    """Requests a second that need no decoding and no model."""
    with started([*serve, "--workers", 1, "--port"], folder, True) as address:
        return wrk(f"{address}/livez", seconds, True)["per_second"]


def parts(bundle: Path, pixels: np.ndarray, raw: bytes) -> dict[str, float]:
    """Seconds of decoding and of the model, each alone on one core."""
    from danlu.base.bundle import open_bundle
    from danlu.prediction.predictor import load_bundle
    from danlu.serving.bodies import item_of_json

    predictor = load_bundle(open_bundle(bundle), spinning=False, most_threads=1)
    body, rows = json.dumps({"pixels": pixels.tolist()}).encode(), pixels[None, None]
    return {
        "pixels": fastest(lambda: predictor.read(item_of_json(body, predictor.recipe))),
        "PNG": fastest(lambda: predictor.read(raw)),
        "model": fastest(lambda: predictor.with_features(rows)),
    }


def fastest(call: Any) -> float:
    taken = []
    for _ in range(2000):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def middle(samples: list[dict[str, float]], key: str) -> str:
    return f"{statistics.median(one[key] for one in samples):.2f}" if key in samples[0] else ""


def row(way: str, samples: list[dict[str, float]], tutorial: float, costs: dict[str, float]) -> dict[str, Any]:
    rates = [one["per_second"] for one in samples]
    decode = costs["PNG" if "PNG" in way else "pixels"]
    most = 1 / (costs["http"] + decode + costs["model"])
    return {
        "service": way,
        "requests/s": report.spread(rates, ",.0f"),
        "p99, ms": middle(samples, "p99_ms"),
        f"p50 at {LIGHT:.0%}, ms": middle(samples, "p50_light_ms"),
        f"p99 at {LOAD:.0%}, ms": middle(samples, "p99_loaded_ms"),
        "of a quarter second": middle(samples, "p99_quarter_loaded_ms"),
        "÷ tutorial": f"{statistics.median(rates) / tutorial:.2f}",
        "÷ X_max": f"{statistics.median(rates) / most:.2f}" if way in ("danlu, pixels", "danlu, PNG") else "",
    }


if __name__ == "__main__":
    main()
