"""What is searched: the ranges danlu makes, files people write, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from danlu.base.config import read_config
from danlu.base.errors import ConfigError
from danlu.training.start import Plan, plan_training, resolve
from danlu.tuning.space import MODEL, Choices, Range, SearchSpace, default_space, read_space
from pictures import write_pictures


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    home = tmp_path_factory.mktemp("space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_CACHE", str(home / ".cache"))
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        return plan_training(write_pictures(home / "photos"), read_config())


def read(text: str, start: Plan, tmp_path: Path, **how: Any) -> SearchSpace:
    file = tmp_path / "space.yaml"
    file.write_text(text, encoding="utf-8")
    return read_space(file, start.config, start.prepared, **how)


def problems_of(text: str, start: Plan, tmp_path: Path, **how: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, start, tmp_path, **how)
    return str(caught.value)


def test_default_space_holds_the_defaults(start: Plan) -> None:
    space = default_space([start.config], start.prepared)
    values = {key: value for key, value, _ in start.config.rows()}
    for key, dimension in space.common.items():
        if key in values:
            assert dimension.holds(values[key]), key


def test_default_space_is_about_rate_batch_decay_smoothing_dropout_and_augmentation(start: Plan) -> None:
    keys = default_space([start.config], start.prepared).keys()
    for wanted in ("training.learning_rate", "training.batch_size", "training.weight_decay", "model.dropout"):
        assert wanted in keys
    assert any(key.startswith("augmentation.") for key in keys)


def test_default_space_reads_back_from_its_own_file(start: Plan, tmp_path: Path) -> None:
    space = default_space([start.config], start.prepared)
    assert read(space.to_yaml(), start, tmp_path) == space


def test_space_of_several_architectures_reads_back(start: Plan, tmp_path: Path) -> None:
    configs = [resolve(read_config(settings={MODEL: name}), start.prepared) for name in ("vgg_cnn", "mlp", "fast_cnn")]
    space = default_space(configs, start.prepared)
    assert space.models == ("vgg_cnn", "mlp", "fast_cnn")
    assert read(space.to_yaml(), start, tmp_path) == space
    assert "training.learning_rate" in {named.key for named in space.dimensions("fast_cnn")}


def test_space_goes_to_json_and_back(start: Plan) -> None:
    space = default_space([start.config], start.prepared)
    assert SearchSpace.from_json(space.to_json()) == space


def test_values_are_typed_by_the_settings(start: Plan, tmp_path: Path) -> None:
    space = read(
        "training.learning_rate: {low: 1e-4, high: 3.0e-2, log: true}\n"
        "training.epochs: {low: 2, high: 8}\n"
        "training.clip_norm: [null, 1]\n"
        "training.nesterov: [true, no]\n"
        "model.widths: [[8, 16], [16, 32]]\n",
        start,
        tmp_path,
    )
    assert space.common == {
        "training.learning_rate": Range(1e-4, 3e-2, log=True),
        "training.epochs": Range(2, 8, whole=True),
        "training.clip_norm": Choices((None, 1.0)),
        "training.nesterov": Choices((True, False)),
        "model.widths": Choices(([8, 16], [16, 32])),
    }


def test_sections_may_stand_above_their_keys(start: Plan, tmp_path: Path) -> None:
    space = read("training:\n  epochs: [1, 2]\n", start, tmp_path)
    assert space.common == {"training.epochs": Choices((1, 2))}


FAULTS = {
    "training.learing_rate: [0.1]": "nearest: 'learning_rate'",
    "trainin.epochs: [1]": "nearest: 'training.epochs'",
    "epochs: [1]": "nearest: 'training.epochs'",
    "data.split_seed: [0, 1]": "section `data` is not searched",
    "training.seed: [0, 1]": "all trials share one seed",
    "training.threads: [1, 2]": "measured once",
    "training.epochs: [0, 5]": "expected a whole number of at least 1 or 'auto', got '0'",
    "training.epochs: []": "the list is empty",
    "training.epochs: 5": "`training.epochs=5`",
    "training.epochs: [auto]": "`auto` is trial 0",
    "training.learning_rate: {low: 0.1, high: 0.01}": "`low` must be below `high`",
    "training.learning_rate: {low: 0, high: 0.01, log: true}": "starts above 0",
    "training.learning_rate: {low: a, high: 0.01}": "`low` must be a number",
    "training.learning_rate: {low: 0.1}": "a range needs `high`",
    "training.learning_rate: {low: 0.1, hihg: 1}": "nearest: 'high'",
    "training.learning_rate: {low: 0.1, high: 1, log: maybe}": "`log` is true or false",
    "training.optimizer: {low: 1, high: 2}": "has no numbers",
    "model.dropuot: [0.1]": "unknown option of vgg_cnn; nearest: 'dropout'",
    "model.dropout: {low: 0.0, high: 1.5}": "less than 1",
    "model.name: [resnt18]": "no model called",
    "model.name: [bilstm]": "does not read images",
    "model.name: mlp": "expected a list of architectures",
    "mlp:\n  model.dropout: [0.1]": "`model.name` lists no such architecture",
}


@pytest.mark.parametrize(("text", "told"), FAULTS.items(), ids=list(FAULTS))
def test_fault_of_a_space_file_is_named(text: str, told: str, start: Plan, tmp_path: Path) -> None:
    assert told in problems_of(text + "\n", start, tmp_path)


def test_several_faults_are_one_error(start: Plan, tmp_path: Path) -> None:
    told = problems_of("training.epochs: [0]\nmodel.dropuot: [1]\ndata.split: [1]\n", start, tmp_path)
    assert told.startswith("3 problems")


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x\n", "training.epochs: !!python/name:os.system x\n"])
def test_tags_and_aliases_are_refused(text: str, start: Plan, tmp_path: Path) -> None:
    assert "line 1" in problems_of(text, start, tmp_path)


def test_grid_takes_no_ranges(start: Plan, tmp_path: Path) -> None:
    told = problems_of("training.learning_rate: {low: 0.1, high: 1}\n", start, tmp_path, grid=True)
    assert "a grid takes lists" in told


def test_combinations_are_all_of_them(start: Plan, tmp_path: Path) -> None:
    text = "model.name: [vgg_cnn, mlp]\ntraining.epochs: [1, 2]\nmlp:\n  training.batch_size: [8, 16, 32]\n"
    space = read(text, start, tmp_path, grid=True)
    found = space.combinations()
    assert len(found) == space.count() == 2 + 2 * 3
    assert {MODEL: "mlp", "training.epochs": 2, "training.batch_size": 8} in found


def test_option_of_one_architecture_alone_belongs_below_it(start: Plan, tmp_path: Path) -> None:
    told = problems_of("model.name: [vgg_cnn, mlp]\nmodel.feature_dropout: [0.1]\n", start, tmp_path)
    assert "is no option of mlp" in told


def test_search_space_without_a_key() -> None:
    space = SearchSpace({"training.epochs": Choices((1, 2))}, {"mlp": {"training.epochs": Choices((3,))}})
    assert space.without(["training.epochs"]) == SearchSpace({})
