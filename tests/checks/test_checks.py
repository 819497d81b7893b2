"""Every check: silent on healthy data, speaks on sick data, and advises what exists."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pytest

from danlu.base.settings import Settings
from danlu.checks import CHECKS
from danlu.checks.evidence import DataEvidence
from danlu.checks.finding import Case, Finding, worst_first
from danlu.cli.main import COMMANDS

PARTS = ("train", "train", "train", "validation", "test")


def healthy(each: int = 150) -> DataEvidence:
    """Two classes in all parts, every content once."""
    number = 2 * each
    return DataEvidence(
        kind="images",
        classes=("猫", "dog"),
        keys=tuple(f"{i}.png" for i in range(number)),
        labels=np.arange(number) % 2,
        parts=np.array([PARTS[i // 2 % 5] for i in range(number)], dtype=object),
        copies=np.arange(number),
    )


def copied(pairs: dict[int, int], evidence: DataEvidence | None = None) -> DataEvidence:
    """Examples that are equal to others."""
    evidence = evidence or healthy()
    copies = evidence.copies.copy()
    for index, other in pairs.items():
        copies[index] = copies[other]
    return replace(evidence, copies=copies)


def without(label: int, part: str, *, stated: bool) -> DataEvidence:
    evidence = healthy()
    kept = ~((evidence.labels == label) & (evidence.parts == part))
    return replace(
        evidence,
        keys=tuple(np.array(evidence.keys)[kept]),
        labels=evidence.labels[kept],
        parts=evidence.parts[kept],
        copies=evidence.copies[kept],
        stated=frozenset(PARTS) if stated else frozenset(),
    )


def unbalanced(ratio: float) -> DataEvidence:
    counts = (round(100 * ratio), 100)
    labels = np.repeat([0, 1], counts)
    number = len(labels)
    keys = tuple(str(i) for i in range(number))
    parts = np.array(["train"] * number, dtype=object)
    return DataEvidence("texts", ("common", "rare"), keys, labels, parts, copies=np.arange(number))


def doubted() -> DataEvidence:
    evidence = healthy()
    probabilities = np.full((300, 2), 0.05)
    probabilities[np.arange(300), evidence.labels] = 0.95
    probabilities[7] = [0.9, 0.1]
    return replace(evidence, label_probabilities=probabilities, suspects=np.array([7]))


SICK = {
    "unreadable": replace(healthy(), unreadable=(Case(("a.png",), "is empty (0 bytes)"),)),
    "missing_part": replace(unbalanced(1), expected=("train", "validation")),
    "missing_class": without(1, "train", stated=True),
    "leaked_copies": copied({8: 0}),
    "leaked_near_copies": replace(healthy(), near_pairs=np.array([[0, 8]])),
    "conflicting_labels": copied({1: 0}),
    "suspect_labels": doubted(),
    "few_examples": healthy(each=10),
    "imbalance": unbalanced(4),
    "copies": copied({2: 0}),
    "near_copies": replace(healthy(), near_pairs=np.array([[0, 2]])),
    "outliers": replace(healthy(), unusual=((3, "blank: every part has a brightness of 7"),)),
}


def found(name: str, evidence: DataEvidence) -> Finding:
    finding = CHECKS.load(name)(evidence)
    assert isinstance(finding, Finding)
    return finding


def test_every_check_has_a_sick_example() -> None:
    assert set(SICK) == set(CHECKS.names())


@pytest.mark.parametrize("name", CHECKS.names())
def test_check_is_silent_on_healthy_data(name: str) -> None:
    assert CHECKS.load(name)(healthy()) is None


@pytest.mark.parametrize("name", CHECKS.names())
def test_check_speaks_on_its_sick_data_under_its_own_name(name: str) -> None:
    finding = found(name, SICK[name])
    assert finding.check == name
    assert finding.message[0] != finding.message[0].upper() or not finding.message[0].isalpha()
    assert not finding.message.endswith(".")
    assert finding.cases or name in ("missing_part", "few_examples")  # what is not there has no examples
    assert Finding.from_json(finding.to_json()) == finding


@pytest.mark.parametrize("name", CHECKS.names())
def test_check_is_silent_on_what_makes_others_speak_unless_it_is_related(name: str) -> None:
    related = {
        "copies": {"conflicting_labels"},
        "leaked_copies": {"copies"},
        "conflicting_labels": {"copies"},
        "missing_class": {"imbalance"},
        "imbalance": {"missing_class"},
    }
    for other, evidence in SICK.items():
        if other != name and other not in related.get(name, set()):
            assert CHECKS.load(name)(evidence) is None, other


@pytest.mark.parametrize("name", CHECKS.names())
def test_advice_names_only_settings_and_commands_that_exist(name: str) -> None:
    keys = {f"{s}.{k}" for s, info in Settings.model_fields.items() for k in info.annotation.model_fields}  # type: ignore[union-attr]
    evidences = [SICK[name], unbalanced(30)] if name == "imbalance" else [SICK[name]]
    for evidence in evidences:
        for quoted in re.findall(r"`([^`]+)`", found(name, evidence).advice):
            if quoted.startswith("danlu "):
                assert quoted.split()[1] in COMMANDS
            elif "." in quoted:
                assert quoted.partition("=")[0] in keys


def test_copies_in_two_parts_are_an_error_from_one_percent_of_a_part_on() -> None:
    few = copied({8: 0}, healthy(each=600))
    assert found("leaked_copies", few).severity == "warning"
    finding = found("leaked_copies", copied({8: 0}))
    assert finding.severity == "error"
    assert finding.message == "1 content stands in more than one part: 1 of 60 test examples (1.67%)"
    assert finding.cases[0].keys == ("0.png", "8.png")
    assert finding.cases[0].note == "train · 猫 = test · 猫"


def test_copies_in_train_alone_are_no_leak() -> None:
    assert CHECKS.load("leaked_copies")(copied({2: 0})) is None


def test_copies_of_more_than_5_percent_are_a_warning() -> None:
    assert found("copies", copied({2: 0})).severity == "note"
    assert (
        found("copies", copied({i: 0 for i in range(2, 60, 2) if healthy().parts[i] == "train"})).severity == "warning"
    )


def test_class_that_train_lacks_is_an_error() -> None:
    finding = found("missing_class", without(1, "train", stated=True))
    assert (finding.severity, finding.message) == ("error", "1 class has no train example: `dog`")
    assert "learnt before it can be tested" in finding.advice


def test_class_that_a_stated_test_part_lacks_is_a_warning() -> None:
    finding = found("missing_class", without(0, "test", stated=True))
    assert (finding.severity, finding.message) == ("warning", "1 class has no test example: `猫`")


def test_class_too_small_to_be_dealt_to_all_parts_is_an_error() -> None:
    finding = found("missing_class", without(0, "test", stated=False))
    assert finding.severity == "error"
    assert "needs 3 different examples, one a part" in finding.advice


def test_class_renamed_in_one_part_is_recognised() -> None:
    evidence = healthy()
    labels = evidence.labels.copy()
    labels[(evidence.labels == 1) & (evidence.parts == "test")] = 2
    renamed = replace(evidence, classes=("猫", "dog", "dogs"), labels=labels, stated=frozenset(PARTS))
    finding = found("missing_class", renamed)
    assert finding.severity == "error"
    assert "`dogs` may be `dog` under another name" in finding.advice
    assert [case.note for case in finding.cases] == [
        "class `dogs`: none in train; renamed from `dog`?",
        "class `dogs`: none in validation; renamed from `dog`?",
        "class `dog`: none in test; renamed from `dogs`?",
    ]


def test_class_under_a_wholly_different_name_is_recognised_when_it_is_the_only_one_missing() -> None:
    evidence = healthy()
    labels = evidence.labels.copy()
    labels[(evidence.labels == 1) & (evidence.parts == "test")] = 2
    renamed = replace(evidence, classes=("猫", "dog", "狗"), labels=labels, stated=frozenset(PARTS))
    assert "`狗` may be `dog` under another name" in found("missing_class", renamed).advice


@pytest.mark.parametrize(("ratio", "severity"), [(1.2, None), (2, "note"), (4, "warning"), (30, "warning")])
def test_imbalance_is_told_by_its_ratio(ratio: float, severity: str | None) -> None:
    finding = CHECKS.load("imbalance")(unbalanced(ratio))
    assert (finding.severity if finding else None) == severity


def test_imbalance_gives_the_balanced_weight_of_each_class() -> None:
    notes = [case.note for case in found("imbalance", unbalanced(4)).cases]
    assert notes == [
        "class `rare`: 100 train examples, balanced weight 2.5",
        "class `common`: 400 train examples, balanced weight 0.625",
    ]


def test_unreadable_examples_that_are_skipped_are_a_warning() -> None:
    skipped = replace(SICK["unreadable"], skips_unreadable=True)
    finding = found("unreadable", skipped)
    assert finding.severity == "warning"
    assert finding.message == "1 of 301 examples cannot be read: `a.png` (is empty (0 bytes))"


def test_near_copies_with_different_labels_come_first() -> None:
    evidence = replace(healthy(), near_pairs=np.array([[0, 2], [0, 1]]))
    finding = found("near_copies", evidence)
    assert finding.message == "2 pairs of nearly equal examples in one part, 1 with different labels"
    assert finding.cases[0].keys == ("0.png", "1.png")
    assert finding.cases[0].note.endswith("(labels differ)")


def test_suspect_label_is_told_with_what_the_model_says() -> None:
    finding = found("suspect_labels", doubted())
    assert finding.cases[0].note == "validation · dog (10.0%); the model says 猫 (90.0%)"
    assert "right on 99.7% of examples they have not seen" in finding.message


def test_errors_come_before_warnings_and_notes() -> None:
    findings = [Finding(s, s, "m", "a") for s in ("note", "error", "warning")]  # type: ignore[arg-type]
    assert [finding.severity for finding in worst_first(findings)] == ["error", "warning", "note"]


def test_part_that_nothing_is_left_for_is_an_error_with_the_number_of_contents() -> None:
    evidence = replace(unbalanced(1), expected=("train", "validation", "test"), copies=np.arange(200) % 2)
    finding = found("missing_part", evidence)
    assert finding.severity == "error"
    assert finding.message.startswith(
        "no example is left for validation and test: 2 different contents in 200 examples"
    )


def test_small_parts_are_told_with_what_a_figure_there_is_worth() -> None:
    finding = found("few_examples", healthy(each=50))
    assert finding.message.startswith("20 validation examples: an accuracy of 90% there is sure to ±13% only; 20 test")


def test_classes_of_hardly_any_train_examples_are_named() -> None:
    finding = found("few_examples", unbalanced(0.03))
    assert finding.message == "1 class has fewer than 5 train examples: `common`"


def test_examples_near_through_others_are_leaked_too_and_counted_once() -> None:
    evidence = replace(healthy(), near_pairs=np.array([[0, 8], [8, 18], [0, 18], [18, 28]]))
    assert "3 of 60 test examples" in found("leaked_near_copies", evidence).message


def test_many_copies_are_counted_not_listed() -> None:
    evidence = copied(dict.fromkeys(range(1, 100), 0))
    for name in ("conflicting_labels", "leaked_copies", "copies"):
        assert max(len(case.note) for case in found(name, evidence).cases) < 200
    assert "× train · dog" in found("conflicting_labels", evidence).cases[0].note


def test_missing_classes_among_many_take_no_longer_than_others() -> None:
    number = 60_000
    parts = np.array(["train", "test"] * (number // 2), dtype=object)
    labels = np.arange(number) // 2 % 300 + 300 * (parts == "test")
    names = tuple(f"{'train' if i < 300 else 'test'} {i % 300}" for i in range(600))
    keys = tuple(map(str, range(number)))
    evidence = DataEvidence("texts", names, keys, labels, parts, frozenset(PARTS), copies=np.arange(number))
    started = time.perf_counter()
    finding = found("missing_class", evidence)
    assert len(finding.cases) == 600
    assert time.perf_counter() - started < 5


def test_only_pairs_that_cross_parts_are_counted_and_shown_as_leaks() -> None:
    evidence = replace(healthy(), near_pairs=np.array([[0, 8], [0, 2], [10, 12], [18, 19]]))
    leaked = found("leaked_near_copies", evidence)
    assert leaked.message.startswith("1 pair of nearly equal examples in different parts: 1 of 60 test examples")
    assert [case.keys for case in leaked.cases] == [("0.png", "8.png")]
    assert len(found("near_copies", evidence).cases) == 3


def test_pairs_are_called_at_least_so_many_where_the_search_passes_some_over() -> None:
    pairs = np.array([[0, 10 * other] for other in range(1, 9)])
    assert found("near_copies", replace(healthy(), near_pairs=pairs)).message.startswith("at least 8 pairs")
    assert found("near_copies", replace(healthy(), near_pairs=pairs[:7])).message.startswith("7 pairs")
