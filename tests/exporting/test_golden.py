"""Bundles of every format that was ever written still load, and answer as they did (`write_golden.py` makes them)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from write_golden import GOLDEN, TEXTS

import danlu
from danlu.base.bundle import FORMAT, KINDS, open_bundle
from danlu.prediction.predictor import load_bundle

HOMES = sorted(GOLDEN.iterdir())
LIMIT = {"fp32": 1e-5, "int8": 0.02}  # of int8, processors round the sums differently


def test_every_format_has_a_bundle_of_each_kind() -> None:
    assert [home.name for home in HOMES] == [f"format-{n}-{kind}" for n in range(1, FORMAT + 1) for kind in KINDS]


@pytest.mark.parametrize("home", HOMES, ids=lambda home: home.name)
def test_golden_bundle_answers_as_it_did(home: Path) -> None:
    bundle = open_bundle(home / "bundle")
    bundle.verify()
    expected = json.loads((home / "answers.json").read_text(encoding="utf-8"))
    assert set(expected) == set(bundle.variants)
    items = TEXTS if bundle.kind == "texts" else sorted((home / "inputs").iterdir())
    for variant, answers in expected.items():
        for answer, probabilities in zip(load_bundle(bundle, variant).predict(items), answers, strict=True):
            assert answer.probabilities == pytest.approx(probabilities, abs=LIMIT[variant])
    assert danlu.load(home / "bundle").classes == bundle.classes
