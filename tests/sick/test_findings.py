"""Each sick run of the ward has its finding among the first three, and no healthy one a sure finding."""

from __future__ import annotations

import json

import pytest
from confusion import Row, by_finding, cured, examined, matrix
from ward import HEALTHY, HEALTHY_NUMBERS, HEALTHY_SLOW, SICK, SICK_SLOW

from danlu.diagnosis.diagnose import diagnose
from danlu.diagnosis.reading import read_evidence
from danlu.diseases import DISEASES
from danlu.diseases.examine import examine

ALL_HEALTHY = HEALTHY | HEALTHY_NUMBERS | HEALTHY_SLOW
FAST_HEALTHY = ("mlp", "ngrams", "sgd", "clipped", "binary_seventy_thirty", "own")
FAST_HEALTHY += ("own_spare_layer", "own_head_on_learnt", "own_scaled_inside", "own_drawn_equally", *HEALTHY_NUMBERS)


@pytest.mark.parametrize("name", [*SICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SICK_SLOW)])
def test_sick_run_has_its_finding_among_the_first_three(name: str) -> None:
    case = (SICK | SICK_SLOW)[name]
    found = [one.disease for one in examine(read_evidence(case.make()))[:3]]
    assert set(found) & set(case.findings), f"{case.what}: {found}"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FAST_HEALTHY else pytest.mark.slow) for name in ALL_HEALTHY],
)
def test_healthy_run_has_no_finding_of_high_confidence(name: str) -> None:
    found = examine(read_evidence(ALL_HEALTHY[name]()))
    sure = [(one.disease, one.sentence) for one in found if one.level == "high"]
    assert sure == []


def test_every_disease_has_a_sick_run() -> None:
    of_probes = {"cannot_overfit"}  # which no training tells; tests/diagnosis/test_probe.py
    assert {case.finding for case in SICK.values()} == set(DISEASES.names()) - of_probes


def test_printed_cure_of_a_sick_run_raises_its_score() -> None:
    case = SICK["rate_by_1000"]
    result = cured(case, "rate_by_1000", diagnose(case.make()))
    assert result is not None
    assert result.helped
    assert result.after is not None
    assert result.after > 0.9


def test_finding_without_a_training_as_its_cure_gives_none() -> None:
    case = SICK["dead_biases"]
    assert cured(case, "dead_biases", diagnose(case.make())) is None


def test_table_tells_place_and_level_of_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row("a", ("leak",), (("leak", "high"), ("drift", "low"))),
        Row("b", ("leak", "copy"), (("copy", "medium"),)),
        Row("c", ("leak",), ()),
        Row("d", (), ()),
        Row("e", (), (("drift", "high"),)),
        Row("f", (), (("drift", "medium"),)),
        Row("g", ("leak",), (("a", "high"), ("b", "high"), ("c", "high"), ("leak", "high"))),
    ]
    assert [row.is_right for row in rows] == [True, True, False, True, False, True, False]
    assert ("leak", 2, 2, 0) in by_finding(rows)
    assert ("drift", 0, 0, 1) in by_finding(rows)
    table = matrix(rows)
    assert (table[0]["leak"], table[0]["drift"]) == ("**1H**", "2L")
    assert table[2]["leak"] == "**missed**"
    json.dumps(table)


def test_runs_are_trained_and_diagnosed_by_name() -> None:
    said: list[str] = []
    rows, findings = examined({"dead": (("dead_units",), SICK["dead_biases"].make)}, said.append)
    assert rows[0].is_right
    assert findings["dead"].run.findings_file.exists()
    assert said[0].startswith("right")
