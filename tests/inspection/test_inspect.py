"""The verb `inspect`: every planted fault is found, a clean set passes, and the page and JSON say it all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import danlu
from danlu.base.errors import DataError
from danlu.base.runs import Run
from danlu.base.settings import DataSettings
from danlu.checks.finding import Case, Finding
from danlu.data.gate import write_gate
from danlu.inspection import suspects
from danlu.inspection.inspect import Inspection
from pictures import write_pictures, write_reviews
from planted import Planted, plant_faults, write_digits

RENAMED = ("seven", "seven (1)")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Planted, Inspection]]:
    home = tmp_path_factory.mktemp("faulty")
    write_digits(home / "digits")
    planted = plant_faults(home / "digits", RENAMED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_CACHE", str(home / ".cache"))
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        yield planted, danlu.inspect(planted.root, labels=True)


def finding(inspection: Inspection, check: str) -> Finding:
    return next(found for found in inspection.findings if found.check == check)


def pairs(found: Finding) -> set[frozenset[str]]:
    return {frozenset(case.keys) for case in found.cases}


def test_planted_copies_across_parts_are_found(faulty: tuple[Planted, Inspection]) -> None:
    planted, inspection = faulty
    found = finding(inspection, "leaked_copies")
    assert pairs(found) == set(map(frozenset, planted.copies))
    assert found.severity == "error"


def test_planted_pictures_saved_again_are_found(faulty: tuple[Planted, Inspection]) -> None:
    planted, inspection = faulty
    assert set(map(frozenset, planted.near)) <= pairs(finding(inspection, "leaked_near_copies"))


def test_planted_truncated_files_are_found(faulty: tuple[Planted, Inspection]) -> None:
    planted, inspection = faulty
    found = finding(inspection, "unreadable")
    assert {case.keys[0] for case in found.cases} == set(planted.truncated)
    assert all("ends after" in case.note or "damaged" in case.note for case in found.cases)
    assert found.severity == "error"


def test_planted_renamed_class_is_found(faulty: tuple[Planted, Inspection]) -> None:
    _, inspection = faulty
    found = finding(inspection, "missing_class")
    assert f"`{RENAMED[1]}` may be `{RENAMED[0]}` under another name" in found.advice
    assert found.severity == "error"


def test_planted_flipped_labels_are_found(faulty: tuple[Planted, Inspection]) -> None:
    planted, inspection = faulty
    found = finding(inspection, "suspect_labels")
    doubted = [case.keys[0] for case in found.cases]
    assert set(planted.flipped) <= set(doubted)
    assert len(doubted) < 4 * len(planted.flipped)
    assert len(set(doubted[:30]) & set(planted.flipped)) >= 18


def test_clean_folder_gives_no_error_and_no_suspicion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "EPOCHS_BETWEEN", (3, 10))  # enough for digits, in a third of the time
    write_digits(tmp_path / "digits")
    inspection = danlu.inspect(tmp_path / "digits", labels=True)
    assert not inspection.has_errors
    assert not {"leaked_copies", "unreadable", "missing_class"} & {found.check for found in inspection.findings}
    doubted = [found for found in inspection.findings if found.check == "suspect_labels"]
    assert all(len(found.cases) < 0.02 * 1797 for found in doubted)


def test_training_on_faulty_data_stops_with_all_errors_at_once(faulty: tuple[Planted, Inspection]) -> None:
    planted, _ = faulty
    with pytest.raises(DataError) as caught:
        danlu.train(planted.root)
    told = str(caught.value)
    assert told.startswith(f"3 problems in `{planted.root}`")
    assert "5 of 1,817 examples cannot be read" in told
    assert "10 contents stand in more than one part" in told
    assert "1 class has no train example: `seven (1)`" in told
    assert f"hint: `danlu inspect {planted.root}` shows every example" in told


def test_page_and_json_name_every_example_of_every_finding(faulty: tuple[Planted, Inspection]) -> None:
    planted, inspection = faulty
    saved = json.loads((inspection.page.parent / "inspection.json").read_text(encoding="utf-8"))
    assert [found["check"] for found in saved["findings"]] == [found.check for found in inspection.findings]
    page = inspection.page.read_text(encoding="utf-8")
    for key in [*planted.truncated, *(key for pair in planted.copies for key in pair)]:
        assert key in page


def test_clean_pictures_are_described(tmp_path: Path) -> None:
    inspection = danlu.inspect(write_pictures(tmp_path / "照片"))
    facts = inspection.facts
    assert not inspection.has_errors
    assert facts["examples"] == 36
    assert facts["images"]["sizes"] == [{"width": 16, "height": 16, "count": 36}]
    assert [row["name"] for row in facts["classes"]] == ["blue", "green", "红"]
    assert sum(row["train"] for row in facts["classes"]) == facts["parts"]["train"]
    assert [row["weight"] for row in facts["classes"]] == [1.0, 1.0, 1.0]
    assert len(facts["images"]["mean"]) == 3


def test_texts_are_described_with_their_faults(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "评论.csv")
    with open(path, "a", encoding="utf-8") as file:
        file.write("1,太慢了，再也不来了\n0,太慢了，再也不来了\n0,\n1,？？？\n")
    inspection = danlu.inspect(path)
    checks = {found.check: found for found in inspection.findings}
    assert checks["conflicting_labels"].message == "1 content has different labels (2 examples)"
    assert checks["unreadable"].cases[0].note == "has an empty text"
    assert checks["outliers"].cases[0].note.endswith("no letter or digit")
    assert inspection.facts["texts"]["signs"]["quantiles"][0] == 3
    assert inspection.facts["texts"]["tokens_are"] == "characters"


def test_parts_that_are_inspected_are_those_that_are_trained_on(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "p")
    inspection = danlu.inspect(pictures)
    run = danlu.train(pictures, {"training.epochs": 1, "training.threads": 1})
    assert run.status()["parts"] == inspection.facts["parts"]


def test_inspection_goes_where_it_is_wished(tmp_path: Path) -> None:
    inspection = danlu.inspect(write_pictures(tmp_path / "p"), folder=tmp_path / "out")
    assert inspection.page == tmp_path / "out" / "inspection.html"
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(danlu.MachineError, match=r"cannot make the folder[\s\S]*--out"):
        danlu.inspect(tmp_path / "p", folder=tmp_path / "file" / "below")


def test_leaks_are_dropped_where_wished_and_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p" / "train")
    write_pictures(tmp_path / "p" / "test", count=5, seed=1)
    copied = tmp_path / "p" / "test" / "红" / "again.jpg"
    copied.write_bytes((tmp_path / "p" / "train" / "红" / "000.jpg").read_bytes())
    assert danlu.inspect(tmp_path / "p").has_errors
    inspection = danlu.inspect(tmp_path / "p", {"data.leaks": "drop"})
    assert not inspection.has_errors
    assert inspection.facts["classes"][2]["total"] == 18
    assert any(note.startswith("left out of ") for note in inspection.facts["notes"])
    run = danlu.train(tmp_path / "p", {"data.leaks": "drop", "training.epochs": 1, "training.threads": 1})
    assert sum(run.status()["parts"].values()) == len(list((tmp_path / "p").rglob("*.jpg"))) - 1


def test_near_copies_of_an_example_that_stands_in_two_parts_are_leaks_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    signs = [chr(0x4E00 + number) for number in range(3000)]
    rows = [f"{''.join(rng.choice(signs, 20))},{i % 2},{('train', 'validation')[i // 30]}" for i in range(60)]
    text = "".join(rng.choice(signs, 30))
    leaked = [f"{text},1,validation", f"{text},1,train", f"{text[:-1]}！,1,validation", f"{text}？,1,validation"]
    for order in (rows + leaked, leaked[::-1] + rows):
        table = tmp_path / "r.csv"
        table.write_text("text,label,part\n" + "\n".join(order) + "\n", encoding="utf-8")
        found = finding(danlu.inspect(table, folder=tmp_path), "leaked_near_copies")
        assert "3 of 33 validation examples" in found.message


def test_run_names_the_first_thousand_cases_and_counts_all(tmp_path: Path) -> None:
    cases = tuple(Case((f"行 {i}",), "≈") for i in range(2500))
    write_gate(Run(tmp_path), [Finding("near_copies", "note", "m", "a", cases)], DataSettings())
    saved = Run(tmp_path).gate()
    assert saved is not None
    (row,) = saved["findings"]
    assert row["case_count"] == 2500
    assert [case["keys"] for case in row["cases"]] == [[f"行 {i}"] for i in range(1000)]


def test_gate_that_is_off_trains_all_the_same_and_says_so(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p" / "train")
    write_pictures(tmp_path / "p" / "test")
    quick = {"training.epochs": 1, "training.threads": 1}
    with pytest.raises(DataError, match="contents stand in more than one part"):
        danlu.train(tmp_path / "p", quick)
    run = danlu.train(tmp_path / "p", {**quick, "data.gate": "off"})
    assert run.gate() == {"format": 1, "gate": "off", "findings": []}
    danlu.evaluate(run)
    assert "The data gate was off" in danlu.report(run).read_text(encoding="utf-8")
    assert "the data gate was off" in run.record_file.read_text(encoding="utf-8")


def test_data_of_two_contents_is_an_error_in_both_commands(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("text,label\n" + "每一行都一样,a\n另一行都一样,b\n" * 50, encoding="utf-8")
    told = "no example is left for validation and test: 2 different contents in 100 examples"
    assert told in {found.check: found.message for found in danlu.inspect(path).findings}["missing_part"]
    with pytest.raises(DataError, match=told):
        danlu.train(path)


def test_small_class_does_not_keep_the_others_from_being_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_reviews(tmp_path / "r.csv", count=200)
    with open(path, "a", encoding="utf-8") as file:
        file.write("2,没有第二句\n0,非常快，很好吃，味道足，满意\n")
    checks = {found.check: found for found in danlu.inspect(path, labels=True).findings}
    assert "1 class has fewer than 5 different examples, whose labels are not looked at: `2`" in capsys.readouterr().err
    assert [case.keys for case in checks["suspect_labels"].cases] == [("line 203",)]
    assert "missing_class" in checks


def test_labels_that_cannot_be_looked_at_leave_the_other_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_reviews(tmp_path / "r.csv", count=6)
    inspection = danlu.inspect(path, labels=True)
    assert "labels were not looked at: fewer than two classes have 5 different examples" in capsys.readouterr().err
    assert inspection.page.exists()


def test_wrong_labels_are_found_although_their_copies_have_them_too(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "r.csv", count=300)
    with open(path, "a", encoding="utf-8") as file:
        file.write("0,非常快，很好吃，味道足，满意\n" * 4)
    found = finding(danlu.inspect(path, labels=True), "suspect_labels")
    assert len(found.cases) == 4


def test_inspections_of_two_files_of_one_name_are_both_kept(tmp_path: Path) -> None:
    pages = {danlu.inspect(write_reviews(folder / "r.csv")).page for folder in (tmp_path, _made(tmp_path / "sub"))}
    assert len(pages) == 2


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
