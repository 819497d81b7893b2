"""Lines of the journal are made in the event loop, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson
import pytest

from danlu.base.journal import Journal
from danlu.serving import journal
from danlu.serving.journal import AT_ONCE, AnswerJournal, Told


class Made:
    """In place of `lines_of`: a line for each number, and how many were made at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        monkeypatch.setattr(journal, "lines_of", self)

    def __call__(self, numbers: Sequence[Any]) -> Iterator[bytes]:
        self.sizes.append(len(numbers))
        for number in numbers:
            yield orjson.dumps({"share": 1 // number}, option=orjson.OPT_APPEND_NEWLINE)


def told(number: int) -> Told:
    return cast(Told, number)


def test_lines_are_made_together_where_many_answers_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch)

    async def answer() -> None:
        kept = AnswerJournal(tmp_path)
        for _ in range(3):
            for _ in range(AT_ONCE):
                kept.add(told(1))
            await asyncio.sleep(0)
        kept.add(told(1))
        kept.close()
        assert kept.lost == 0

    asyncio.run(answer())
    assert made.sizes == [AT_ONCE, AT_ONCE, AT_ONCE, 1]
    assert len(list(Journal(tmp_path).rows())) == 3 * AT_ONCE + 1


def test_lone_answer_is_written_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch)

    async def answer() -> list[Any]:
        kept = AnswerJournal(tmp_path)
        kept.add(told(1))
        reader, ends = Journal(tmp_path), asyncio.get_running_loop().time() + 5
        while not (rows := list(reader.rows())) and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.01)
        kept.close()
        return rows

    assert asyncio.run(answer()) == [{"share": 1}]


def test_answer_after_which_none_comes_waits_for_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Made(monkeypatch)

    async def answer() -> list[int]:
        kept = AnswerJournal(tmp_path)
        kept.add(told(1))
        await asyncio.sleep(0.5)
        sizes = list(made.sizes)
        kept.close()
        return sizes

    assert asyncio.run(answer()) == [1]


def test_row_that_cannot_be_made_is_lost_and_later_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Made(monkeypatch)

    async def answer() -> int:
        kept = AnswerJournal(tmp_path)
        kept.add(told(0))
        ends = asyncio.get_running_loop().time() + 5
        while not kept.lost and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.01)
        kept.add(told(1))
        kept.close()
        return kept.lost

    assert asyncio.run(answer()) == 1
    assert list(Journal(tmp_path).rows()) == [{"share": 1}]
    assert "answers are missing in the journal: integer division or modulo by zero" in capsys.readouterr().err


def lines(*confidences: float, key: str | None = None, is_shadow: bool = False) -> list[dict[str, Any]]:
    """The lines of answers of a model that is sure of cats, and knows nothing below 0.6."""
    arm: Any = SimpleNamespace(
        model="pets@1",
        reference=SimpleNamespace(summary=None),
        predictor=SimpleNamespace(
            classes=("dog", "cat"), calibration=SimpleNamespace(accepts=lambda confidence: confidence >= 0.6)
        ),
    )
    rows = [np.array([1 - confidence, confidence]) for confidence in confidences]
    told = [Told(arm, "id", row, np.zeros(3), 1.5, 2.5, key, is_shadow) for row in rows]
    return [orjson.loads(line) for line in journal.lines_of(told)]


def test_line_says_what_was_answered_and_whether_the_model_knew() -> None:
    expected = {"id": "id", "model": "pets@1", "class": "cat", "time": 1.5, "ms": 2.5, "features": []}
    for line, confidence, is_unknown in zip(lines(0.9, 0.55), (0.9, 0.55), (False, True), strict=True):
        assert {name: line[name] for name in expected} == expected
        assert (line["confidence"], line["unknown"]) == (confidence, is_unknown)
        assert "key" not in line and "shadow" not in line


def test_line_tells_users_apart_and_not_who_they_are() -> None:
    users = [f"user {number}@example.org" for number in range(1000)]
    kept = [lines(0.9, key=user)[0]["key"] for user in users]
    assert len(set(kept)) == len(users) and not any("user" in one or "example" in one for one in kept)
    assert lines(0.9, key=users[0])[0]["key"] == kept[0]


def test_line_of_a_shadow_says_so() -> None:
    assert lines(0.9, is_shadow=True)[0]["shadow"] is True
