"""`danlu monitor compare`: which of two models in a journal is better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from streams import CLASSES, MODEL, Stream, write_journal

from danlu.base.errors import ConfigError, DataError
from danlu.cli.monitor import command
from danlu.monitoring import comparing
from danlu.monitoring.comparing import compare_arms
from danlu.monitoring.rows import Row

A, B = "pets@0123456789ab", "better@ba9876543210"


def answered(
    count: int, shares: Sequence[float], *, is_shadow: bool, split: float = 0.5, seed: int = 0
) -> tuple[list[Row], dict[str, str]]:
    """Answers of two models of which these shares are right, and the right labels."""
    rng, rows, labels = np.random.default_rng(seed), [], {}
    for row in Stream(seed).rows(count):
        labels[row.id] = str(rng.choice(CLASSES))
        wrong = next(name for name in CLASSES if name != labels[row.id])
        for which in (0, 1) if is_shadow else (int(rng.random() < split),):
            label = labels[row.id] if rng.random() < shares[which] else wrong
            rows.append(replace(row, model=(A, B)[which], label=label, is_shadow=is_shadow and bool(which)))
    return rows, labels


def write_labels(path: Path, labels: dict[str, str], header: str = "id,label") -> Path:
    path.write_text("\n".join([header, *(f"{id},{label}" for id, label in labels.items())]) + "\n", encoding="utf-8")
    return path


def test_better_shadow_is_found(tmp_path: Path) -> None:
    rows, labels = answered(1500, (0.80, 0.88), is_shadow=True)
    folder = write_journal(tmp_path / "journal", rows)
    found = compare_arms(folder, write_labels(tmp_path / "labels.csv", labels))
    assert found.better == B and found.e_value is not None and found.e_value >= 20
    assert [arm.answers for arm in found.arms] == [1500, 1500] and found.arms[1].is_shadow
    assert found.arms[0].accuracy == pytest.approx(0.80, abs=0.04)
    assert found.notes[0].startswith("both answered the same 1,500 inputs, and are alike in 7")


def test_better_of_two_that_share_the_requests_is_found(tmp_path: Path) -> None:
    rows, labels = answered(4000, (0.95, 0.75), is_shadow=False, split=0.2)
    folder = write_journal(tmp_path / "journal", rows)
    found = compare_arms(folder, write_labels(tmp_path / "labels.csv", labels))
    assert found.better == A and sum(arm.answers for arm in found.arms) == 4000


def test_equal_models_are_not_decided_and_the_command_says_so(tmp_path: Path) -> None:
    rows, labels = answered(400, (0.9, 0.9), is_shadow=True, seed=3)
    folder = write_journal(tmp_path / "journal", rows)
    path = write_labels(tmp_path / "labels.csv", {**labels, "unheard": "猫"})
    result = CliRunner().invoke(command, ["compare", str(folder), "--labels", str(path)])
    assert result.exit_code == 0
    assert "not decided: the highest e-value is" in result.stdout
    assert "1 of 401 labels are of answers that these models did not give" in result.stdout
    told = json.loads(CliRunner().invoke(command, ["compare", str(folder), "--labels", str(path), "--json"]).stdout)
    assert told["better"] is None and told["e_value"] < 20


def test_without_labels_nothing_is_decided(tmp_path: Path) -> None:
    rows, _ = answered(300, (0.8, 0.9), is_shadow=True)
    found = compare_arms(write_journal(tmp_path / "journal", rows))
    assert found.better is None and found.e_value is None and "without labels nobody knows" in found.decision


def test_one_of_several_models_is_chosen_by_name(tmp_path: Path) -> None:
    rows, labels = answered(300, (0.8, 0.9), is_shadow=True)
    rows = [replace(row, model="third@000000000000") if place % 4 == 0 else row for place, row in enumerate(rows)]
    folder = write_journal(tmp_path / "journal", rows)
    with pytest.raises(ConfigError, match=r"the journal has .*`third@000000000000:answers`; the same inputs answered "):
        compare_arms(folder)
    found = compare_arms(folder, write_labels(tmp_path / "l.csv", labels), ["pets", "better"])
    assert [arm.model for arm in found.arms] == [A, B]
    found = compare_arms(folder, models=["pets", "third"])
    assert {arm.model for arm in found.arms} == {A, "third@000000000000"} and not any(x.is_shadow for x in found.arms)


def promoted(tmp_path: Path, *, swapped: bool = True) -> tuple[Path, dict[str, str]]:
    """B was in the shadow of A, then answered itself, with A in its shadow or without."""
    rows, labels = answered(600, (0.80, 0.95), is_shadow=True)
    later, more = answered(200, (0.80, 0.95), is_shadow=True, seed=1)
    later = [
        replace(row, id=f"later-{row.id}", time=row.time + 1000, is_shadow=row.model == A)
        for row in later
        if swapped or row.model == B
    ]
    folder = write_journal(tmp_path / "journal", [*rows, *later])
    return folder, {**labels, **{f"later-{id}": label for id, label in more.items()}}


def test_shadow_that_was_promoted_is_compared_by_what_both_answered(tmp_path: Path) -> None:
    folder, labels = promoted(tmp_path, swapped=False)
    found = compare_arms(folder, write_labels(tmp_path / "l.csv", labels))
    assert [(arm.model, arm.is_shadow, arm.answers) for arm in found.arms] == [(A, False, 600), (B, True, 600)]
    assert found.better == B and not any("not looked at" in note for note in found.notes)


def test_latest_of_two_pairs_is_compared_and_the_other_is_told(tmp_path: Path) -> None:
    folder, _ = promoted(tmp_path)
    found = compare_arms(folder)
    assert [(arm.model, arm.is_shadow, arm.answers) for arm in found.arms] == [(B, False, 200), (A, True, 200)]
    result = CliRunner().invoke(command, ["compare", str(folder)])
    told = f"not looked at: `{A}` with `{B}` in its shadow, which answered 600 same inputs: "
    assert told + f"`--model {A}:answers --model {B}:shadow`\n" in result.stdout


def test_labels_say_which_of_two_pairs_is_meant(tmp_path: Path) -> None:
    folder, labels = promoted(tmp_path)
    first = {id: label for id, label in labels.items() if not id.startswith("later")}
    found = compare_arms(folder, write_labels(tmp_path / "l.csv", first))
    assert [(arm.model, arm.labelled) for arm in found.arms] == [(A, 600), (B, 600)] and found.better == B


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([f"{A}:answers", f"{B}:shadow"], [(A, False), (B, True)]),
        (["better:shadow", "pets"], [(A, False), (B, True)]),
        (["better:shadow"], [(A, False), (B, True)]),
        (["better:answers", "pets:shadow"], [(B, False), (A, True)]),
        (["pets", "better"], [(B, False), (A, True)]),
        (["pets:answers", "better:answers"], [(A, False), (B, False)]),
    ],
)
def test_what_a_model_was_is_chosen_after_its_name(
    tmp_path: Path, models: list[str], expected: list[tuple[str, bool]]
) -> None:
    folder, _ = promoted(tmp_path)
    words = [word for name in models for word in ("--model", name)]
    result = CliRunner().invoke(command, ["compare", str(folder), "--json", *words])
    assert [(arm["model"], arm["is_shadow"]) for arm in json.loads(result.stdout)["arms"]] == expected


@pytest.mark.parametrize("models", [["pets:shadow", "better:shadow"], ["nobody"], ["pets", "better", "third"]])
def test_choice_that_cannot_be_is_refused_with_the_names_to_choose(tmp_path: Path, models: list[str]) -> None:
    folder, _ = promoted(tmp_path)
    with pytest.raises(ConfigError, match=f"the journal has `{B}:answers`, `{B}:shadow`, `{A}:answers`, ") as caught:
        compare_arms(folder, models=models)
    assert "`--model NAME:answers` or `NAME:shadow`" in str(caught.value.hint)


def test_shadow_of_two_that_share_the_requests_is_not_guessed(tmp_path: Path) -> None:
    rows, _ = answered(600, (0.8, 0.9), is_shadow=True)
    rows = [replace(row, model="third@1") if place % 4 == 0 else row for place, row in enumerate(rows)]
    folder = write_journal(tmp_path / "journal", rows)
    with pytest.raises(ConfigError, match=rf"answered `third@1` with `{B}` in its shadow and `{A}` with `{B}`"):
        compare_arms(folder)
    assert {arm.model for arm in compare_arms(folder, models=["pets", "better"]).arms} == {A, B}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id;label\nr0;猫\n", "has no column 'id' and no column 'label'"),
        ("id,truth\nr0,猫\n", "has no column 'label'"),
        ("", "has no column"),
        ("id,label\nr0,\n", "line 2 of .* has no id or no label"),
        ("id,label\nr0,猫\nr0,dog\n", "1 answers have two labels"),
        ('id,label\n"r0,猫\n', "cannot be read"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, text: str, told: str) -> None:
    rows, _ = answered(10, (0.8, 0.9), is_shadow=True)
    folder = write_journal(tmp_path / "journal", rows)
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        compare_arms(folder, tmp_path / "l.csv")


def test_labels_in_another_encoding_or_nowhere_are_refused(tmp_path: Path) -> None:
    rows, _ = answered(10, (0.8, 0.9), is_shadow=True)
    folder = write_journal(tmp_path / "journal", rows)
    (tmp_path / "l.csv").write_bytes(b"id,label\nr0,\xff\xff\n")
    with pytest.raises(DataError, match="neither UTF-8 nor GB18030"):
        compare_arms(folder, tmp_path / "l.csv")
    with pytest.raises(DataError, match=r"none\.csv` cannot be read: No such file"):
        compare_arms(folder, tmp_path / "none.csv")


def test_labels_as_a_chinese_spreadsheet_writes_them(tmp_path: Path) -> None:
    rows, labels = answered(200, (0.8, 0.9), is_shadow=True)
    folder = write_journal(tmp_path / "journal", rows)
    plain = compare_arms(folder, write_labels(tmp_path / "l.csv", labels))
    text = "编号,标签\n" + "\n".join(f"{id},{label}" for id, label in labels.items())
    (tmp_path / "标签.csv").write_bytes(text.encode("gb18030"))
    assert compare_arms(folder, tmp_path / "标签.csv") == plain


def test_labels_that_are_no_class_are_refused_and_not_counted_as_wrong(tmp_path: Path) -> None:
    rows, labels = answered(100, (0.8, 0.9), is_shadow=True)
    rows = [replace(row, model=row.model if row.is_shadow else MODEL) for row in rows]
    folder = write_journal(tmp_path / "journal", rows, Stream(0).reference())
    renamed = {id: "cat" if label == "猫" else label for id, label in labels.items()}
    count = sum(label == "cat" for label in renamed.values())
    with pytest.raises(DataError, match=rf"{count} of 100 labels are no class of these models: `cat` \({count}\)"):
        compare_arms(folder, write_labels(tmp_path / "l.csv", renamed))


def test_journal_of_one_model_has_nothing_to_compare(tmp_path: Path) -> None:
    folder = write_journal(tmp_path / "journal", Stream(0).rows(10))
    with pytest.raises(ConfigError, match="two models are compared"):
        compare_arms(folder)
    with pytest.raises(ConfigError, match="it is no folder"):
        compare_arms(tmp_path / "nowhere")


def test_labels_that_come_late_are_taken_in_their_own_order(tmp_path: Path) -> None:
    """Newest answers first: in the journal's order each look would be another course, and the promise would be none."""
    wrong = 0
    for seed in range(12):
        rows, labels = answered(400, (0.6, 0.6), is_shadow=True, seed=seed)
        folder = write_journal(tmp_path / str(seed), rows)
        newest_first = list(reversed(labels.items()))
        decided = False
        for count in range(20, 401, 20):
            found = compare_arms(folder, write_labels(tmp_path / "l.csv", dict(newest_first[:count])))
            decided = decided or found.better is not None
        wrong += decided
    assert wrong <= 2


def test_answers_with_the_same_id_count_once(tmp_path: Path) -> None:
    rows, labels = answered(12, (0.0, 1.0), is_shadow=True)
    rows = [replace(row, id="fixed") for row in rows if labels.setdefault(row.id, "")]
    folder = write_journal(tmp_path / "journal", rows)
    found = compare_arms(folder, write_labels(tmp_path / "l.csv", {"fixed": rows[1].label}))
    assert found.better is None and [arm.labelled for arm in found.arms] == [1, 1]
    assert any("22 answers have an id that was answered before" in note for note in found.notes)


def test_first_answer_with_an_id_counts(tmp_path: Path) -> None:
    """Or what is added to the journal would change what was decided before."""
    rows, _ = answered(1, (0.0, 1.0), is_shadow=True)
    first = [replace(row, label=label) for row, label in zip(rows, ("dog", "猫"), strict=True)]
    again = [replace(row, time=row.time + 1, label=label) for row, label in zip(rows, ("猫", "dog"), strict=True)]
    folder = write_journal(tmp_path / "journal", [*first, *again])
    found = compare_arms(folder, write_labels(tmp_path / "l.csv", {rows[0].id: "dog"}))
    assert [arm.accuracy for arm in found.arms] == [1, 0]


def test_slowest_answers_are_told_beside_the_usual_ones(tmp_path: Path) -> None:
    rows, _ = answered(200, (0.8, 0.9), is_shadow=True)
    slow = [replace(row, ms=100.0 if place % 20 < 2 else 2.0) for place, row in enumerate(rows)]
    for arm in compare_arms(write_journal(tmp_path / "journal", slow)).arms:
        assert arm.p50_ms == pytest.approx(2, rel=0.02) and arm.p99_ms == pytest.approx(100, rel=0.02)


def test_answers_that_wait_for_the_other_models_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_PENDING", 10)
    paired = comparing._Paired(((A, False), (B, True)), {})
    rows, _ = answered(50, (0.8, 0.9), is_shadow=True)
    for row in rows:
        if not row.is_shadow:
            paired.add(row)
    assert len(paired._pending) == 10
    for row in rows[-20:]:
        if row.is_shadow:
            paired.add(row)
    assert "both answered the same 10 inputs" in paired.notes()[0], "the latest"
