"""Threads, memory order, precision and compilation, chosen by measuring the model on this machine.

What could end the process (bf16 on processors that lack it in spite of their flags) or take long (torch.compile) is
tried in a child process with a time limit, and only where a run is long enough for the trial to pay back. Results are
kept per machine, model and PyTorch version, so that the next run chooses the same; not those of a machine that had more
to do than it has cores.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import danlu
from danlu.base import log
from danlu.base.config import Config
from danlu.base.errors import MachineError
from danlu.base.files import write_json
from danlu.base.machine import available_cores, cache_folder, is_oversubscribed, processor_name
from danlu.models import MODELS
from danlu.models.build import build_model, check_options
from danlu.models.shapes import ImageShape
from danlu.training.measure import Timed, Way, example_batch, time_ways

FORMAT = 1
THREADS_WORTH = 1.2
ORDER_WORTH = 1.03
PRECISION_WORTH = 1.15
TRIAL_SHARE = 0.05  # a trial may cost this share of the run
PRECISION_TRIAL_SECONDS = 5.0
COMPILE_TRIAL_SECONDS = 90.0
HOUR = 3600.0
Choices = dict[str, tuple[Any, str]]


@dataclass(frozen=True)
class Model:
    """What is measured: `model.json`, a batch of examples, where, and in how many processes on this machine."""

    description: Mapping[str, Any]
    batch: tuple[Tensor, Tensor]
    processes: int = 1

    @property
    def device(self) -> torch.device:
        return self.batch[1].device


class Trial:
    """What became of a way that was tried in a child process."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.failure: str | None = told.get("failure")
        self.base_milliseconds = float(told.get("base", {}).get("milliseconds", 0))
        self.milliseconds = float(told.get("timed", {}).get("milliseconds", 0))
        self.first_seconds = float(told.get("timed", {}).get("first_seconds", 0))

    @property
    def gain(self) -> float:
        """How many times as fast as without; 0 when it failed."""
        return 0.0 if self.failure else self.base_milliseconds / max(1e-9, self.milliseconds)


def choose_by_measuring(config: Config, module: nn.Module, model: Model, total_steps: int) -> Choices:
    """The settings of section `training` left to measuring, each with what was measured.

    Raises `MachineError` when a precision that was asked for does not work here.
    """
    training = config.settings.training
    measured = Measured(module, model)
    choices: Choices = {}
    way, told = measured.choose_safely(training.threads, training.channels_last)
    if training.threads == "auto":
        choices["training.threads"] = (way.threads, told["threads"])
    if training.channels_last == "auto":
        choices["training.channels_last"] = (way.channels_last, told["channels_last"])
    if training.precision in ("bf16", "fp16"):
        measured.require(training.precision)
    run_seconds = total_steps * measured.milliseconds / 1e3
    if training.precision == "auto":
        choices["training.precision"] = measured.choose_precision(way, run_seconds)
    if training.compile == "auto":
        choices["training.compile"] = measured.choose_compile(way, run_seconds)
    return choices


class Measured:
    """Measurements of one model on this machine; what is known from earlier is not measured again."""

    def __init__(self, module: nn.Module, model: Model) -> None:
        self.module = module
        self.model = model
        self.milliseconds = 0.0
        self.known = Known(self._key())

    def choose_safely(self, threads: int | str, channels_last: bool | str) -> tuple[Way, dict[str, str]]:
        """Threads and memory order, which no process dies of: measured here, in turn."""
        cores = max(1, available_cores() // self.model.processes)
        on_processor = self.model.device.type == "cpu"
        counts = sorted({1, cores}) if threads == "auto" and on_processor and self.model.processes == 1 else [cores]
        if threads != "auto":
            counts = [int(threads)]
        has_convolutions = any(isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for m in self.module.modules())
        orders = [channels_last] if channels_last != "auto" else [False, True] if has_convolutions else [False]
        ways = [Way(threads=count, channels_last=bool(order)) for count in counts for order in orders]
        taken = {timed.way: timed.milliseconds for timed in self.known.timed() if timed.way in ways}
        if len(taken) < len(ways):
            timed = time_ways(self.module, *self.model.batch, ways)
            if not is_oversubscribed():
                self.known.keep_ways(timed)
            taken = {one.way: one.milliseconds for one in timed}
        chosen, told = ways[0], {"threads": "one core", "channels_last": "no convolutions over images"}
        if len(counts) > 1:
            few, many = (min(taken[way] for way in ways if way.threads == count) for count in counts)
            best_count = cores if few > THREADS_WORTH * many else 1
            told["threads"] = f"a step takes {few:.1f} ms with 1 thread and {many:.1f} ms with {cores}, measured"
            chosen = min((way for way in ways if way.threads == best_count), key=lambda way: taken[way])
        elif threads == "auto" and self.model.processes > 1:
            told["threads"] = f"{available_cores()} cores for {self.model.processes} processes"
        if len(orders) > 1:
            plain, last = (taken[Way(threads=chosen.threads, channels_last=order)] for order in (False, True))
            chosen = Way(threads=chosen.threads, channels_last=plain > ORDER_WORTH * last)
            told["channels_last"] = f"a step takes {last:.1f} ms with it and {plain:.1f} ms without, measured"
        self.milliseconds = taken[chosen]
        return chosen, told

    def choose_precision(self, way: Way, run_seconds: float) -> tuple[str, str]:
        """bf16 (on a GPU fp16 where it has no bf16) when it makes steps at least 15 % faster."""
        name = "bf16" if self.model.device.type != "cuda" or torch.cuda.is_bf16_supported() else "fp16"
        is_short = run_seconds * TRIAL_SHARE < PRECISION_TRIAL_SECONDS
        too_short = "fp32", f"a run of about {_readable(run_seconds)} is too short to try {name}"
        if is_short and name not in _read(_machine_file(self.model.device))["trials"]:
            return too_short
        if failure := survival(name, self.model.device):
            return "fp32", f"{name} {failure}"
        in_it = replace(way, precision=name)
        if is_short and self.known.trial(in_it) is None:
            return too_short
        trial = self._tried(way, in_it, max(run_seconds * TRIAL_SHARE, 2 * PRECISION_TRIAL_SECONDS))
        if trial.failure:
            return "fp32", f"{name} {trial.failure}"
        told = f"a step takes {trial.milliseconds:.1f} ms in {name} and {trial.base_milliseconds:.1f} ms in fp32"
        return (name if trial.gain >= PRECISION_WORTH else "fp32"), f"{told}, measured in a child process"

    def choose_compile(self, way: Way, run_seconds: float) -> tuple[bool, str]:
        """torch.compile when what it saves in this run is more than compiling and trying it cost."""
        if self.model.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            return False, "there is no C++ compiler here"
        compiled = Way(way.threads, way.channels_last, way.precision, True)
        if self.known.trial(compiled) is None and run_seconds * TRIAL_SHARE < COMPILE_TRIAL_SECONDS:
            return False, f"a run of about {_readable(run_seconds)} is too short to try it"
        trial = self._tried(way, compiled, max(run_seconds * TRIAL_SHARE, COMPILE_TRIAL_SECONDS))
        if trial.failure:
            return False, trial.failure
        saved = run_seconds * (1 - 1 / trial.gain) - trial.first_seconds
        told = f"a step takes {trial.milliseconds:.1f} ms with it and {trial.base_milliseconds:.1f} ms without"
        told += f", compiling {trial.first_seconds:.0f} s"
        if saved > 0:
            return True, f"{told}: saves {_readable(saved)} of {_readable(run_seconds)}"
        return False, f"{told}: does not pay back in {_readable(run_seconds)}"

    def require(self, precision: str) -> None:
        if failure := survival(precision, self.model.device):
            raise MachineError(
                f"`training.precision={precision}` {failure}", hint="use `training.precision=fp32` here, or `auto`"
            )

    def _tried(self, base: Way, way: Way, limit_seconds: float) -> Trial:
        """Measured in a child process, once."""
        known = self.known.trial(way)
        if known is None:
            request = {
                "model": dict(self.model.description),
                "batch_size": len(self.model.batch[1]),
                "device": str(self.model.device),
                "ways": [asdict(base), asdict(way)],
            }
            name = "torch.compile" if way.compile else way.precision
            log.say(f"  trying {name} in a child process, at most {_readable(limit_seconds)} …")
            known = run_child("danlu.training.measure", request, limit_seconds)
            if not known.get("timed_out"):
                self.known.keep_trial(way, known)
        return Trial(known)

    def _key(self) -> str:
        told = self.model.description
        facts = [
            *_machine_facts(self.model.device),
            [told[name] for name in ("name", "options", "example_shape")],
            len(told["classes"]),
            len(self.model.batch[1]),
            self.model.processes,
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Known:
    """What earlier measurements on this machine told, in the cache folder; `key` names machine, model and PyTorch."""

    def __init__(self, key: str) -> None:
        self.path = cache_folder() / "measured" / f"{key}.json"
        self.values = _read(self.path)

    def timed(self) -> list[Timed]:
        return [Timed(Way(**row["way"]), row["milliseconds"], row["first_seconds"]) for row in self.values["ways"]]

    def keep_ways(self, timed: Sequence[Timed]) -> None:
        self.values["ways"] = [asdict(row) for row in timed]
        self._write()

    def trial(self, way: Way) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.values["trials"].get(_described(way))
        return found

    def keep_trial(self, way: Way, told: dict[str, Any]) -> None:
        self.values["trials"][_described(way)] = told
        self._write()

    def _write(self) -> None:
        _write(self.path, self.values)


def check_machine(device: torch.device, *, again: bool = False) -> tuple[list[tuple[str, str]], Choices]:
    """What a network of convolutions trains fastest with on this machine: (ways with their times, choices).

    The network is `vgg_cnn` on 32 × 32 colour images, 64 at a time; the choices are those for a run of an hour.
    """
    if again:
        shutil.rmtree(cache_folder() / "measured", ignore_errors=True)
    shape = ImageShape(3, 32, 32)
    module = build_model("vgg_cnn", shape, 10).to(device)
    options = check_options("vgg_cnn", MODELS.load("vgg_cnn").Options, {}).model_dump()
    description = {
        "name": "vgg_cnn",
        "kind": "images",
        "classes": list("0123456789"),
        "example_shape": list(shape),
        "options": options,
    }
    inputs, labels = example_batch(shape, "images", 64, 10)
    measured = Measured(module, Model(description, (inputs.to(device), labels.to(device))))
    way, reasons = measured.choose_safely("auto", "auto")
    choices: Choices = {
        "training.threads": (way.threads, reasons["threads"]),
        "training.channels_last": (way.channels_last, reasons["channels_last"]),
        "training.precision": measured.choose_precision(way, HOUR),
    }
    precise = Way(way.threads, way.channels_last, choices["training.precision"][0])
    choices["training.compile"] = measured.choose_compile(precise, HOUR)
    rows = [(_described(timed.way), f"{timed.milliseconds:,.1f} ms") for timed in measured.known.timed()]
    for name in ("bf16", "fp16"):
        in_it = replace(way, precision=name)
        trial = measured.known.trial(in_it)
        failure = survival(name, device)
        rows.append(
            (_described(in_it), f"{Trial(trial).milliseconds:,.1f} ms" if trial and not failure else failure or "works")
        )
    compiled = replace(precise, compile=True)
    if (known := measured.known.trial(compiled)) is not None:
        one = Trial(known)
        told = one.failure or f"{one.milliseconds:,.1f} ms, compiling {one.first_seconds:.0f} s"
        rows.append((_described(compiled), told))
    return rows, choices


def survival(precision: str, device: torch.device) -> str:
    """Why a precision does not work here, or an empty text.

    Products, convolutions and their gradients are tried in a child process, once a machine and PyTorch version.
    """
    path = _machine_file(device)
    values = _read(path)
    if precision not in values["trials"]:
        told = run_child("danlu.training.survival", {"precision": precision, "device": str(device)}, 60.0)
        if told.get("timed_out"):  # a machine that is busy now is tried again
            return str(told["failure"])
        values["trials"][precision] = told
        _write(path, values)
    return str(values["trials"][precision].get("failure") or "")


def run_child(module: str, request: Mapping[str, Any], limit_seconds: float) -> dict[str, Any]:
    """The last row a child process answers; `failure` says how it ended when it did not end well."""
    environment = {**os.environ, "PYTHONFAULTHANDLER": "0"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=limit_seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"takes longer than {limit_seconds:.0f} s to try", "timed_out": True}
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    answered = rows[-1] if rows and "trying" not in rows[-1] else {}
    if done.returncode < 0:
        answered["failure"] = f"ends the process here ({_signal(-done.returncode)}), tried in a child process"
    elif done.returncode or not answered:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        answered["failure"] = f"does not work here ({last[:200]})"
    return {**answered, "seconds": round(time.perf_counter() - started, 2)}


def _signal(number: int) -> str:
    meaning = {signal.SIGILL: "illegal instruction", signal.SIGSEGV: "segmentation fault"}
    name = signal.Signals(number)
    return f"{meaning[name]}, {name.name}" if name in meaning else name.name


def _machine_facts(device: torch.device) -> list[Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return [FORMAT, danlu.__version__, torch.__version__, processor_name(), available_cores(), name]


def _machine_file(device: torch.device) -> Path:
    digest = hashlib.sha256(json.dumps(_machine_facts(device)).encode()).hexdigest()[:16]
    return cache_folder() / "measured" / f"machine-{digest}.json"


def _read(path: Path) -> dict[str, Any]:
    """What is known; nothing when there is no file or it is not ours."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {"ways": list(values["ways"]), "trials": dict(values["trials"])}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.say(f"`{path}` is damaged ({error}); measuring again")
    return {"ways": [], "trials": {}}


def _write(path: Path, values: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, values)
    except (OSError, MachineError) as error:
        log.warn(f"what was measured is not kept for the next run: {error}")


def _described(way: Way) -> str:
    threads = "1 thread" if way.threads == 1 else f"{way.threads} threads"
    return f"{way.precision}, {threads}" + ", channels last" * way.channels_last + ", compiled" * way.compile


def _readable(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
