"""Which bundle answers which user, and what happens when one is replaced."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from danlu.base.bundle import MARK
from danlu.base.errors import ModelError
from danlu.serving import deployment
from danlu.serving.deployment import Deployment, Marks, arm_of
from danlu.serving.lane import Limits


@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.5, 0.5], [0.2, 0.3, 0.5]], ids=str)
def test_share_of_the_users_is_that_of_the_bundle(shares: list[float]) -> None:
    found = [arm_of(f"user {number}", shares) for number in range(5000)]
    assert [found.count(place) / 5000 for place in range(len(shares))] == pytest.approx(shares, abs=0.03)


def test_user_stays_at_a_bundle_in_every_process_and_version() -> None:
    """SHA-256 of 1 to 4 begins with 6b, d4, 4e and 4b: 0.42, 0.83, 0.30 and 0.29 of the way."""
    assert [arm_of(str(user), [0.3, 0.3, 0.4]) for user in (1, 2, 3, 4)] == [1, 2, 1, 0]


def test_user_of_the_smaller_share_stays_there_when_it_grows() -> None:
    before = {user for user in range(500) if arm_of(str(user), [0.9, 0.1]) == 1}
    assert before and before <= {user for user in range(500) if arm_of(str(user), [0.7, 0.3]) == 1}


def arm(name: str, place: str = "a", classes: tuple[str, ...] = ("cat", "dog")) -> Any:
    """An invented arm; `closed`: whether its lane is."""
    bundle = SimpleNamespace(digest=name, kind="images", classes=classes, verify=lambda: None)
    found = SimpleNamespace(place=Path(place), share=1.0, bundle=bundle, model=f"{name}@1", closed=False)
    found.lane = SimpleNamespace(close=lambda: setattr(found, "closed", True))
    return found


def lie(monkeypatch: pytest.MonkeyPatch, *arms: Any) -> None:
    """At the place of each arm lies its bundle; one whose name is `bad` cannot be loaded."""
    there = {one.place: one for one in arms}

    async def load(place: Path, *_: Any) -> Any:
        if there[place].bundle.digest == "bad":
            raise ModelError("bad")
        return there[place]

    monkeypatch.setattr("danlu.serving.deployment.open_bundle", lambda place: there[place].bundle)
    monkeypatch.setattr("danlu.serving.deployment.load_arm", load)


def test_what_a_monitor_needs_is_kept_before_a_new_bundle_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = arm("old"), arm("new")
    lie(monkeypatch, new)
    seen: list[tuple[str, str]] = []

    async def reload() -> bool:
        found = Deployment([old], Limits())
        found.before_swap = lambda fresh: seen.append((fresh.model, found.arms[0].model))
        return await found.reload() and found.arms == [new]

    assert asyncio.run(reload())
    assert seen == [("new@1", "old@1")]


def test_bundle_that_was_replaced_computes_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = arm("old"), arm("new")
    lie(monkeypatch, new)

    async def reload() -> None:
        await Deployment([old], Limits()).reload()

    asyncio.run(reload())
    assert (old.closed, new.closed) == (True, False)


def test_bundle_that_was_loaded_for_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that have to be replaced together, one cannot be loaded."""
    others = ("cat", "dog", "bird")
    olds = [arm("old", place) for place in "ab"]
    news = [arm("new", "a", others), arm("bad", "b", others)]
    lie(monkeypatch, *news)

    async def reload() -> tuple[bool, list[Any]]:
        found = Deployment(olds, Limits())
        return await found.reload(), found.arms

    assert asyncio.run(reload()) == (False, olds)
    assert news[0].closed and not any(old.closed for old in olds)


def test_bundle_that_was_written_over_in_its_place_is_noticed(tmp_path: Path) -> None:
    mark = tmp_path / MARK
    mark.write_text("1", encoding="utf-8")
    os.utime(mark, ns=(0, 10**18))
    marks = Marks([tmp_path])
    assert not marks.have_changed()
    os.utime(mark, ns=(0, 10**18 + 1))
    assert marks.have_changed() and not marks.have_changed()


@pytest.mark.parametrize(("variant", "is_alone"), [("dynamic-int8", True), ("int8", False), ("fp32", False)])
def test_model_whose_numbers_depend_on_company_is_measured_alone(
    monkeypatch: pytest.MonkeyPatch, variant: str, is_alone: bool
) -> None:
    measured: list[bool] = []
    monkeypatch.setattr(deployment, "load_bundle", lambda *_, **__: None)
    monkeypatch.setattr(deployment, "read_reference", lambda _: None)
    monkeypatch.setattr(deployment, "measure_pace", lambda _, *, depends_on_batch: measured.append(depends_on_batch))
    bundle: Any = SimpleNamespace(content={"default": variant})
    deployment._loaded(bundle, 1)
    assert measured == [is_alone]
