"""`python -m danlu.tuning.worker`: one of several processes of a search; it reads from stdin what it is to do."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from danlu.base import log
from danlu.base.errors import DanluError
from danlu.base.machine import suit_process_to_training


def main() -> None:
    """Search until the budget is used, and tell a line a trial; the exit code is as for `danlu tune`."""
    told = json.load(sys.stdin)
    suit_process_to_training()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    log.name_process(f"worker {told['worker']}")
    try:
        with nullcontext() if told["talks"] else log.silence():
            search_as_told(told)
    except DanluError as error:
        log.error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as stopped:
        sys.exit(getattr(stopped, "exit_code", 130))


def search_as_told(told: dict[str, Any]) -> None:
    """What a worker does, in this process."""
    from danlu.tuning.plan import SearchPlan
    from danlu.tuning.prepare import prepare_again
    from danlu.tuning.search import Budget, Search, Tried
    from danlu.tuning.storage import Place, opened
    from danlu.tuning.telling import find_best, line_of

    plan = SearchPlan.from_json(told["plan"])
    journal = Path(told["journal"]) if told["journal"] else None
    place = Place(journal=journal, url=told["url"])
    trainings = prepare_again(plan).trainings
    with opened(place) as storage:
        search = Search(plan, storage, trainings, worker=told["worker"])

        def tell(tried: Tried) -> None:
            log.say(line_of(tried, plan, find_best(search.tried(), plan, trainings)))

        search.run(Budget(told["trials"], told["deadline"]), tell)


def _interrupt(number: int, frame: FrameType | None) -> None:
    stopped = KeyboardInterrupt()
    stopped.exit_code = 128 + number  # type: ignore[attr-defined]
    raise stopped


if __name__ == "__main__":
    if not os.environ.get("PYTHONSAFEPATH"):
        sys.path[:] = [path for path in sys.path if path]  # the working folder holds the user's files, not ours
    main()
