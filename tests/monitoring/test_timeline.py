"""Numbers over time: right, and bounded however long it goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from streams import START, Stream

from danlu.monitoring.timeline import MOST_PIECES, Timeline


def test_whole_is_the_sum_of_what_was_added() -> None:
    rows = [replace(row, ms=float(place % 100 + 1)) for place, row in enumerate(Stream(0).rows(2000))]
    line = Timeline()
    for row in rows:
        line.add(row)
    whole = line.whole()
    assert whole.answers == 2000 == sum(piece.answers for piece in line.pieces)
    assert whole.mean_confidence == pytest.approx(np.mean([row.confidence for row in rows]))
    assert whole.low == sum(row.confidence < 0.7 for row in rows)
    assert whole.classes.total() == 2000
    assert (line.first, line.last) == (rows[0].time, rows[-1].time)
    for share in (0.5, 0.95, 0.99):
        exact = np.quantile([row.ms for row in rows], share, method="inverted_cdf")
        assert whole.latency(share) == pytest.approx(exact, rel=0.02)


def test_unknown_answers_are_counted_through_every_doubling() -> None:
    line, row = Timeline(), next(iter(Stream(0).rows(1)))
    for place in range(3000):
        line.add(replace(row, time=START + place * 331.0, is_unknown=place % 3 == 0))
    assert line.whole().unknown == sum(piece.unknown for piece in line.pieces) == 1000


def test_pieces_are_few_however_long_it_goes_on() -> None:
    line, row = Timeline(), next(iter(Stream(0).rows(1)))
    for place in range(20_000):
        line.add(replace(row, time=START + place * 331.0))
    assert len(line.pieces) <= MOST_PIECES
    assert sum(piece.answers for piece in line.pieces) == 20_000
    starts = [piece.start for piece in line.pieces]
    assert starts == sorted(starts) and all(start % line.seconds == 0 for start in starts)


def test_marks_keep_the_highest_ratio_through_every_doubling() -> None:
    line, row = Timeline(), next(iter(Stream(0).rows(1)))
    for place in range(5000):
        time = START + place * 40.0
        line.add(replace(row, time=time))
        line.mark(time, {"confidence": place / 5000})
    assert max(piece.ratios["confidence"] for piece in line.pieces) == pytest.approx(0.9998)


def test_latency_of_nothing_and_of_less_than_can_be_counted() -> None:
    line = Timeline()
    assert line.whole().latency(0.5) == 0
    line.add(replace(next(iter(Stream(0).rows(1))), ms=0.0))
    assert 0 < line.whole().latency(0.5) <= 0.001
