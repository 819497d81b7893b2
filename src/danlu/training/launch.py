"""Several processes on this machine through PyTorch's elastic launcher: one that dies makes all start again."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import uuid
from typing import Any

from danlu.base import errors, log
from danlu.base.errors import DanluError, MachineError
from danlu.base.runs import Run, list_runs
from danlu.training.interrupt import Interrupted

MAX_RESTARTS = 3


def launch(run: Run, processes: int, *, inexact: bool = False) -> Run:
    """Train a prepared or interrupted run with so many processes, each of them `danlu train --resume RUN`.

    When one of them dies, all are started again and go on from the last checkpoint, up to three times.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it tells, the run's state tells
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=MAX_RESTARTS,
        monitor_interval=0.1,
        local_addr="127.0.0.1",
    )
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # for the processes that are started
    quiet = [] if log.is_talking() else ["--quiet"]
    words = ["-m", "danlu", *quiet, "train", "--resume", str(run.folder), *(["--inexact"] if inexact else [])]
    try:
        elastic_launch(config, sys.executable)(*words)
    except SignalException as stopped:
        raise Interrupted(int(stopped.sigval)) from None
    except ChildFailedError as failure:
        _raise_failure(run.status())
        _, first = failure.get_first_failure()
        run.update(state="failed", stop_reason=f"process {first.local_rank} ended: {first.message}")
        raise MachineError(
            f"process {first.local_rank} of {processes} ended with {_exit_told(first.exitcode)},"
            f" and {MAX_RESTARTS} restarts did not help",
            hint=f"what it said stands above; `danlu train --resume {run}` goes on from the last checkpoint",
        ) from None
    _raise_failure(run.status())
    return run


def launcher_fact() -> dict[str, Any]:
    """What tells a launcher from another: its machine and its process, which outlives those it starts again."""
    return {"host": socket.gethostname(), "process": os.getppid(), "run_id": os.environ.get("TORCHELASTIC_RUN_ID")}


def restarts() -> int:
    """How often the launcher has started this process again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def relaunched_run() -> Run | None:
    """The run the launcher's processes were training before one of them died; None at the first start."""
    if not restarts():
        return None
    mine = launcher_fact()
    return next((run for run in reversed(list_runs()) if run.status().get("launcher") == mine), None)


def _raise_failure(status: dict[str, Any]) -> None:
    """What ended the first process, as if it had been raised here."""
    if status.get("state") != "failed" or "failure" not in status:
        return
    told = status["failure"]
    kind: type[DanluError] = getattr(errors, told["type"], MachineError)
    raise kind(told["message"], hint=told["hint"])


def _exit_told(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
