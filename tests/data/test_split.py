"""Which example is in which part: shares, ties, what the data states, what an earlier run decided, the manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from danlu.base.errors import DataError, MachineError
from danlu.data.split import HEADER, ManifestRow, Split, manifest_rows, read_manifest, split_examples, write_manifest
from danlu.sources.examples import Examples

FILE = Path("manifest.csv")


def examples(
    labels: Sequence[str],
    *,
    parts: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
) -> Examples:
    classes = tuple(sorted(set(labels)))
    names = tuple(keys or (f"line {i}" for i in range(len(labels))))
    return Examples(
        kind="texts",
        items=names,
        labels=np.array([classes.index(label) for label in labels]),
        classes=classes,
        keys=names,
        parts=tuple(parts or [""] * len(labels)),
        description="invented",
        groups=tuple(groups) if groups else None,
    )


def hashes(*contents: object) -> list[str]:
    return [hashlib.sha256(str(content).encode()).hexdigest() for content in contents]


def parts_by(names: Sequence[object], split: Split) -> dict[object, set[str]]:
    found: dict[object, set[str]] = {}
    for name, part in zip(names, split.part_of, strict=True):
        found.setdefault(name, set()).add(part)
    return found


def counts(labels: Sequence[str], split: Split) -> Counter[tuple[str, str]]:
    return Counter(zip(labels, split.part_of, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_every_part_gets_its_share_of_every_class(seed: int) -> None:
    labels = ["猫"] * 100 + ["dog"] * 50 + ["rare"] * 10
    split = split_examples(examples(labels), hashes(*range(160)), shares=(0.7, 0.1, 0.2), seed=seed)
    assert counts(labels, split) == {
        ("猫", "train"): 70, ("猫", "validation"): 10, ("猫", "test"): 20,
        ("dog", "train"): 35, ("dog", "validation"): 5, ("dog", "test"): 10,
        ("rare", "train"): 7, ("rare", "validation"): 1, ("rare", "test"): 2,
    }  # fmt: skip
    assert split.notes == (f"no parts in the data: 70% train, 10% validation, 20% test, stratified, seed {seed}",)


def test_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    data, digests = examples(["a", "b"] * 50), hashes(*range(100))
    one, again, other = (split_examples(data, digests, seed=seed).part_of for seed in (1, 1, 2))
    assert one == again != other


def test_part_without_a_share_stays_empty() -> None:
    split = split_examples(examples(["a", "b"] * 10), hashes(*range(20)), shares=(0.8, 0.2, 0))
    assert Counter(split.part_of) == {"train": 16, "validation": 4}
    assert split.indices("test").tolist() == []


def test_smallest_possible_class_has_one_example_in_each_part() -> None:
    labels = ["a"] * 3 + ["b"] * 40
    split = split_examples(examples(labels), hashes(*range(43)))
    assert {part for label, part in counts(labels, split) if label == "a"} == {"train", "validation", "test"}


def test_exact_duplicates_stand_in_one_part() -> None:
    contents = [i // 3 for i in range(120)]
    labels = ["ab"[content % 2] for content in contents]
    split = split_examples(examples(labels), hashes(*contents))
    assert all(len(parts) == 1 for parts in parts_by(contents, split).values())
    assert set(split.part_of) == {"train", "validation", "test"}


def test_equal_groups_stand_in_one_part_and_empty_groups_tie_nothing() -> None:
    groups = [f"患者{i // 4}" if i < 80 else "" for i in range(160)]
    labels = ["ab"[i // 4 % 2] for i in range(160)]
    split = split_examples(examples(labels, groups=groups), hashes(*range(160)))
    found = parts_by(groups, split)
    assert found.pop("") == {"train", "validation", "test"}
    assert all(len(parts) == 1 for parts in found.values())


def test_ties_of_content_and_group_reach_through_each_other() -> None:
    # 0–1 by content, 1–2 by group, 2–3 by content: all four are one.
    contents = [0, 0, 1, 1, *range(10, 46)]
    groups = ["p", "q", "q", "r", *[""] * 36]
    for seed in range(5):
        split = split_examples(examples(["a", "b"] * 20, groups=groups), hashes(*contents), seed=seed)
        assert len(set(split.part_of[:4])) == 1


def test_stated_parts_are_kept() -> None:
    parts = (["train"] * 6 + ["validation"] * 2 + ["test"] * 2) * 2
    split = split_examples(examples(["a", "b"] * 10, parts=parts), hashes(*range(20)), shares=(0.1, 0.1, 0.8))
    assert list(split.part_of) == parts
    assert split.notes == ("parts as the data states them: train, validation, test",)


@pytest.mark.parametrize(
    ("lacking", "expected", "note"),
    [
        ("validation", {"train": 140, "validation": 20}, "of train, 12.5% as validation, stratified, seed 0"),
        ("test", {"train": 128, "test": 32}, "of train, 20.0% as test, stratified, seed 0"),
    ],
)
def test_part_the_data_lacks_is_cut_from_train(lacking: str, expected: dict[str, int], note: str) -> None:
    stated = "test" if lacking == "validation" else "validation"
    parts = ["train"] * 160 + [stated] * 20
    split = split_examples(examples(["a", "b"] * 90, parts=parts), hashes(*range(180)), shares=(0.7, 0.1, 0.2))
    assert Counter(split.part_of[:160]) == expected
    assert set(split.part_of[160:]) == {stated}
    assert note in split.notes


def test_data_without_a_train_part_is_refused() -> None:
    with pytest.raises(DataError, match="the data states the parts validation, test but no train part"):
        split_examples(examples(["a", "b"] * 2, parts=["test", "test", "validation", "validation"]), hashes(*range(4)))


def test_class_too_small_for_the_parts_goes_to_train_first() -> None:
    labels = ["a"] * 30 + ["b"] * 2 + ["c"]
    split = split_examples(examples(labels), hashes(*range(33)))
    assert parts_by(labels, split)["b"] == {"train", "validation"}
    assert parts_by(labels, split)["c"] == {"train"}


def test_leaked_example_is_dropped_from_the_earlier_part_and_counted() -> None:
    parts = ["train", "train", "validation", "validation", "test", "test"]
    contents = hashes("one", "two", "two", "three", "three", "four")
    split = split_examples(examples(["a", "b"] * 3, parts=parts), contents, drop_leaks=True)
    assert split.part_of == ("train", "dropped", "validation", "dropped", "test", "test")
    assert "left out of train: 1 examples whose content stands in a later part too" in split.notes
    assert "left out of validation: 1 examples whose content stands in a later part too" in split.notes


def test_leaked_example_stays_where_nothing_is_to_be_dropped() -> None:
    parts = ["train", "train", "validation", "test"]
    split = split_examples(examples(["a", "b"] * 2, parts=parts), hashes(1, 2, 3, 2))
    assert split.part_of == tuple(parts)


def test_what_an_earlier_run_placed_stays_there_for_ever() -> None:
    labels = ["a", "b"] * 30
    before = split_examples(examples(labels), hashes(*range(60)), seed=1)
    earlier = manifest_rows(examples(labels), hashes(*range(60)), before)
    # Shuffled, renamed, half as many again, another seed, other shares.
    order = np.random.default_rng(0).permutation(90)
    data = examples([("a", "b")[i % 2] for i in order], keys=[f"new name {i}" for i in order])
    after = split_examples(data, hashes(*order), seed=2, shares=(0.4, 0.3, 0.3), earlier=earlier)
    assert all(after.part_of[place] == before.part_of[i] for place, i in enumerate(order) if i < 60)
    assert "60 examples stay in the part an earlier run gave them" in after.notes
    assert {after.part_of[place] for place, i in enumerate(order) if i >= 60} == {"train", "validation", "test"}


def test_unchanged_data_is_split_as_before() -> None:
    data, digests = examples(["a", "b"] * 30), hashes(*range(60))
    before = split_examples(data, digests, seed=1)
    after = split_examples(data, digests, seed=9, earlier=manifest_rows(data, digests, before))
    assert after.part_of == before.part_of


@pytest.mark.parametrize("seed", range(5))
def test_new_member_of_a_placed_group_joins_it(seed: int) -> None:
    groups = [f"g{i // 2}" for i in range(40)]
    labels = ["ab"[i // 2 % 2] for i in range(40)]
    before = split_examples(examples(labels, groups=groups), hashes(*range(40)), seed=seed)
    earlier = manifest_rows(examples(labels, groups=groups), hashes(*range(40)), before)
    after = split_examples(examples(labels * 2, groups=groups * 2), hashes(*range(80)), seed=seed + 1, earlier=earlier)
    assert after.part_of[:40] == before.part_of
    assert all(len(parts) == 1 for parts in parts_by(groups * 2, after).values())


def test_earlier_part_that_is_no_longer_cut_is_dealt_anew() -> None:
    data, digests = examples(["a", "b"] * 20), hashes(*range(40))
    earlier = manifest_rows(data, digests, split_examples(data, digests))
    after = split_examples(data, digests, shares=(0.8, 0.2, 0), earlier=earlier)
    assert set(after.part_of) == {"train", "validation"}


@pytest.mark.parametrize(
    "keys",
    [
        ("猫/图 片.jpg", "a,b.jpg", 'quote".jpg', "two\nlines", "carriage\rreturn", "crlf\r\n", " blank ", "", "\ufeff",
         "\\xff.jpg", "tab\t", "'", "#", "=1+1", "\u2028", "😀"),
        ("plain", "猫"),
    ],
    ids=["odd", "plain"],
)  # fmt: skip
def test_manifest_survives_the_disk(keys: tuple[str, ...]) -> None:
    rows = [ManifestRow(key, f"类 {key}", "train", "0" * 32) for key in keys]
    write_manifest(FILE, rows)
    assert read_manifest(FILE) == rows


def test_manifest_is_plain_csv_with_the_start_of_each_hash() -> None:
    data = examples(["猫", "dog"], parts=["train", "train"])
    digests = hashes(0, 1)
    write_manifest(FILE, manifest_rows(data, digests, Split(("train", "test"), ())))
    assert FILE.read_text(encoding="utf-8").splitlines() == [
        "key,label,part,sha256",
        f"line 0,猫,train,{digests[0][:32]}",
        f"line 1,dog,test,{digests[1][:32]}",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is no split manifest: its first line is not `key,label,part,sha256`"),
        (b"a,b\n1,2\n", "is no split manifest: its first line is not `key,label,part,sha256`"),
        (",".join(HEADER).encode() + b"\na,b\n", "cannot be read: "),
        (",".join(HEADER).encode() + b"\n\xff\xff,b,train,0\n", "cannot be read: "),
        (None, "cannot be read: "),
    ],
    ids=["empty", "other-table", "ragged", "not-utf-8", "missing"],
)
def test_damaged_manifest_is_a_data_error_that_names_the_file(content: bytes | None, expected: str) -> None:
    if content is not None:
        FILE.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_manifest(FILE)
    assert "`manifest.csv`" in caught.value.message
    assert expected in caught.value.message


def test_manifest_that_cannot_be_written_is_a_machine_error() -> None:
    with pytest.raises(MachineError, match="cannot write `gone/manifest"):
        write_manifest(Path("gone/manifest.csv"), [])


def pairs_of_neighbours(*firsts: int) -> np.ndarray:
    return np.array([(first, first + 1) for first in firsts], dtype=np.int64)


def test_nearly_equal_examples_are_in_one_part_also_through_others() -> None:
    labels = ["a", "b"] * 40
    pairs = pairs_of_neighbours(0, 1, 2, 10, 30, 31, 60)
    for seed in range(20):
        split = split_examples(examples(labels), hashes(*range(80)), seed=seed, near=lambda: pairs)
        assert all(split.part_of[a] == split.part_of[b] for a, b in pairs)
    assert split.near_pairs is pairs
    assert "11 examples are nearly equal to others" in " ".join(split.notes)


def test_example_near_to_one_of_an_earlier_run_goes_to_its_part() -> None:
    before = split_examples(examples(["a", "b"] * 20), hashes(*range(40)))
    earlier = manifest_rows(examples(["a", "b"] * 20), hashes(*range(40)), before)
    pairs = np.array([(i, 40 + i) for i in range(40)])
    after = split_examples(examples(["a", "b"] * 40), hashes(*range(80)), earlier=earlier, near=lambda: pairs)
    assert after.part_of == before.part_of * 2


def test_nearly_equal_examples_are_not_looked_for_where_nothing_is_drawn() -> None:
    def never() -> np.ndarray:
        raise AssertionError("looked for pairs")

    data = examples(["a", "b"] * 20)
    digests = hashes(*range(40))
    earlier = manifest_rows(data, digests, split_examples(data, digests))
    assert split_examples(data, digests, earlier=earlier, near=never).near_pairs is None
    stated = examples(["a", "b"] * 3, parts=["train", "train", "validation", "validation", "test", "test"])
    assert split_examples(stated, hashes(*range(6)), near=never).part_of == stated.parts


def test_part_the_data_states_keeps_an_example_near_to_one_of_another() -> None:
    parts = ["train"] * 40 + ["test"] * 10
    data = examples(["a", "b"] * 25, parts=parts)
    split = split_examples(data, hashes(*range(50)), near=lambda: np.array([(0, 45), (2, 45)]))
    assert split.part_of[45] == "test" and split.part_of[0] == split.part_of[2] != "test"


def test_examples_that_are_nearly_all_equal_are_dealt_one_by_one_and_that_is_said() -> None:
    labels = ["a", "b"] * 40
    chain = pairs_of_neighbours(*range(40), 60)
    split = split_examples(examples(labels), hashes(*range(80)), near=lambda: chain)
    assert {split.part_of[i] for i in range(41)} == {"train", "validation", "test"}
    assert split.part_of[60] == split.part_of[61]
    told = " ".join(split.notes)
    assert "41 examples are nearly equal to so many that a part" in told
    assert " 2 examples are nearly equal to others" in told


def test_near_pairs_between_groups_do_not_tie_everything_together() -> None:
    labels = ["a", "b"] * 180
    groups = [str(index // 6) for index in range(360)]
    chain = np.array([(index * 6, index * 6 + 6) for index in range(11)])  # ties 72 of 360, more than a validation part
    split = split_examples(examples(labels, groups=groups), hashes(*range(360)), near=lambda: chain)
    assert len({split.part_of[index] for index in range(72)}) > 1
    assert all(len(parts) == 1 for parts in parts_by(groups, split).values())
    few = split_examples(examples(labels, groups=groups), hashes(*range(360)), near=lambda: chain[:3])
    assert len({few.part_of[index] for index in range(24)}) == 1


def test_class_of_nearly_equal_examples_is_in_every_part_all_the_same() -> None:
    labels = ["a"] * 300 + ["burst"] * 14
    pairs = np.array([(300, other) for other in range(301, 314)] + [(0, 1)])
    split = split_examples(examples(labels), hashes(*range(314)), near=lambda: pairs)
    assert {split.part_of[i] for i in range(300, 314)} == {"train", "validation", "test"}
    assert split.part_of[0] == split.part_of[1]
    assert "14 examples are nearly equal to so many" in " ".join(split.notes)


@pytest.mark.parametrize(("size", "is_tied"), [(10, True), (11, False)])
def test_near_examples_are_tied_up_to_the_size_of_the_smallest_part(size: int, is_tied: bool) -> None:
    chain = np.array([(2 * i, 2 * i + 2) for i in range(size - 1)])
    outcomes = set()
    for seed in range(10):
        split = split_examples(examples(["a", "b"] * 50), hashes(*range(100)), seed=seed, near=lambda: chain)
        outcomes.add(len({split.part_of[2 * i] for i in range(size)}) == 1)
    assert outcomes == {is_tied}


def test_smallest_part_is_counted_among_the_examples_that_are_dealt() -> None:
    parts = ["train"] * 100 + ["test"] * 100
    chain = np.array([(2 * i, 2 * i + 2) for i in range(14)])  # 15 examples of 100, of which 12.5 % are validation
    data = examples(["a", "b"] * 100, parts=parts)
    split = split_examples(data, hashes(*range(200)), near=lambda: chain)
    assert "15 examples are nearly equal to so many" in " ".join(split.notes)


@pytest.mark.parametrize("seed", range(10))
def test_large_groups_do_not_upset_the_shares(seed: int) -> None:
    groups = ["large"] * 15 + ["middle"] * 9 + [""] * 76
    split = split_examples(examples(["a"] * 100, groups=groups), hashes(*range(100)), seed=seed)
    assert Counter(split.part_of) == {"train": 70, "validation": 10, "test": 20}
