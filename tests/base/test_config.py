"""YAML, words and Python settings to checked values: what is read, what is refused, and how it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from danlu.base.config import HINT, Config, example_yaml, read_config, schema
from danlu.base.errors import ConfigError
from danlu.base.settings import Settings

FILE = Path("c.yaml")


def from_yaml(text: str | bytes) -> Config:
    FILE.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return read_config(FILE)


def refusal(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        from_yaml(text)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("training.learning_rate", "1e-4", 1e-4),
        ("training.learning_rate", "1E-4", 1e-4),
        ("training.learning_rate", ".5", 0.5),
        ("training.learning_rate", "auto", "auto"),
        ("training.epochs", "010", 10),
        ("training.epochs", "'3'", 3),
        ("training.nesterov", "no", False),
        ("training.nesterov", "off", False),
        ("training.nesterov", "yes", True),
        ("data.cache", "False", False),
        ("data.label_column", "no", "no"),
        ("data.label_column", "off", "off"),
        ("data.label_column", "010", "010"),
        ("data.label_column", "12:30", "12:30"),
        ("data.label_column", "1e-4", "1e-4"),
        ("data.label_column", "2024-01-31", "2024-01-31"),
        ("data.label_column", "标签", "标签"),
        ("data.label_column", "null", None),
        ("data.label_column", "", None),
        ("training.clip_norm", "null", None),
        ("training.clip_norm", "1", 1.0),
        ("data.split", "[0.8, .1, 1e-1]", [0.8, 0.1, 0.1]),
        ("model.depth", "3", 3),
        ("model.dropout", "1e-1", 0.1),
        ("model.pretrained", "true", True),
        ("model.widths", "[16, 32]", [16, 32]),
    ],
)
def test_scalar_is_typed_by_the_schema_and_not_by_its_looks(key: str, text: str, expected: object) -> None:
    section, _, name = key.partition(".")
    value = {k: v for k, v, _ in from_yaml(f"{section}:\n  {name}: {text}\n").rows()}[key]
    assert value == expected
    assert type(value) is type(expected)
    if text:
        words = {k: v for k, v, _ in read_config(words=[f"{key}={text.strip(chr(39))}"]).rows()}
        assert words[key] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training:\n\tepochs: 3\n", "`c.yaml`: line 2, column 1: found character '\\t' that cannot start any token "
         "(use blanks, not tabs, to indent)"),
        ("training:\n  epochs: 1\n  epochs: 2\n", "`c.yaml`: line 3: key `epochs` stands twice"),
        ("data:\n  cache: no\ndata:\n  cache: yes\n", "`c.yaml`: line 3: key `data` stands twice"),
        ("training: !!python/object/apply:os.system ['touch marker']\n", "`c.yaml`: line 1: the tag "
         "`tag:yaml.org,2002:python/object/apply:os.system` is refused; only plain values are read"),
        ("data:\n  source: !!str table\n", "`c.yaml`: line 2: the tag `tag:yaml.org,2002:str` is refused; "
         "only plain values are read"),
        ("a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
         "`c.yaml`: line 1: anchors and aliases are not used in a configuration"),
        ("- 1\n- 2\n", "`c.yaml` holds a list, expected sections with keys"),
        ("epochs 3\n", "`c.yaml` holds a single value, expected sections with keys"),
        ("a: 1\n---\nb: 2\n", "`c.yaml`: line 2, column 1: but found another document"),
        ("? [a, b]\n: 1\n", "`c.yaml`: line 1: a key must be a name"),
        ("training: {epochs: 3\n", "`c.yaml`: line 2, column 1: expected ',' or '}', but got '<stream end>'"),
        ("data:\n  source: \0\n", "`c.yaml`: not YAML: unacceptable character #x0000"),
        ("[" * 20_000, "`c.yaml`: nested too deeply"),
        ("training:\n".encode("utf-16"), "`c.yaml` is not UTF-8 text (byte 0)"),
        ("data:\n  label_column: 标签\n".encode("gb18030"), "`c.yaml` is not UTF-8 text (byte 22)"),
        ("# " + "x" * (1 << 20), "`c.yaml` is larger than 1,048,576 bytes; a configuration is a short text"),
    ],
    ids=[
        "tabs", "duplicate-key", "duplicate-section", "python-object", "tag", "alias-bomb", "list", "single-value",
        "two-documents", "key-that-is-a-list", "unclosed", "nul", "too-deep", "utf-16", "gb18030", "too-large",
    ],
)  # fmt: skip
def test_file_that_is_no_plain_yaml_is_refused_with_its_line(text: str | bytes, expected: str) -> None:
    assert refusal(text).startswith(expected)
    assert not Path("marker").exists()


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("training: {learing_rate: 1}", "training.learing_rate", "unknown key; nearest: 'learning_rate'"),
        ("training: {resize: pad}", "training.resize", "unknown key; nearest: 'data.resize'"),
        ("trainig: {epochs: 3}", "trainig.epochs", "unknown key; nearest: 'training.epochs'"),
        ("dta: {thing: 3}", "dta.thing", "unknown section; nearest: 'data'"),
        ("epochs: 3", "epochs", "unknown key; nearest: 'training.epochs'"),
        ("trainig:", "trainig", "unknown section; nearest: 'training'"),
        ("training: {epochs: 0}", "training.epochs", "expected a whole number of at least 1 or 'auto', got '0'"),
        ("training: {epochs: 12:30}", "training.epochs",
         "expected a whole number of at least 1 or 'auto', got '12:30'"),
        ("training: {epochs: true}", "training.epochs", "expected a whole number of at least 1 or 'auto', got 'true'"),
        ("training: {epochs: {a: 1}}", "training.epochs",
         "expected a whole number of at least 1 or 'auto', got {'a': '1'}"),
        ("training: {learning_rate: .nan}", "training.learning_rate",
         "expected a number above 0 or 'auto', got '.nan'"),
        ("training: {learning_rate: inf}", "training.learning_rate", "expected a number above 0 or 'auto', got 'inf'"),
        ("training: {nesterov: maybe}", "training.nesterov", "expected true or false, got 'maybe'"),
        ("training: {momentum: 2}", "training.momentum",
         "expected a number of at least 0 and of at most 1, got '2'"),
        ("data: {unreadable: no}", "data.unreadable", "expected one of stop, skip, got 'no'"),
        ("data: {split: [1, 2]}", "data.split", "expected a list of 3 values, each a number"),
        ("data: {split: [0.5, 0.1, 0.1]}", "data",
         "`split` must add up to 1 with a train share above 0, got [0.5, 0.1, 0.1]"),
        ("data: {source: [a]}", "data.source", "expected a text, got ['a']"),
        ("training: 5", "training", "expected keys below `training:`, got '5'"),
        ("training: {epochs: 3}\ntraining.epochs: 5", "training.epochs",
         "stands twice, once with a dot and once below `training:`"),
    ],
)  # fmt: skip
def test_wrong_key_or_value_is_named_with_what_was_expected(text: str, key: str, expected: str) -> None:
    first, row, *more = refusal(text + "\n").splitlines()
    assert first == "1 problem in `c.yaml`"
    assert row.startswith(f"  {key}   {expected}")
    assert not more


def test_all_faults_are_told_at_once() -> None:
    FILE.write_text("training:\n  learing_rate: 1\n  epochs: 0\ndata:\n  colour: gray\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(FILE, words=["training.seed=-1", "loose", "data.split=[0.5"], settings={"model": 3})
    lines = caught.value.message.splitlines()
    assert lines[0] == "7 problems in `c.yaml`"
    assert {line.split()[0] for line in lines[1:]} == {
        "training.learing_rate", "training.epochs", "data.colour", "training.seed", "loose", "data.split", "model",
    }  # fmt: skip
    assert caught.value.hint == HINT


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "---\n", "training:\n", "\ufeff"])
def test_empty_file_leaves_every_default(text: str) -> None:
    assert from_yaml(text) == Config(Settings())


def test_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert from_yaml(b"\xef\xbb\xbftraining:\r\n  epochs: 3\r\n").settings.training.epochs == 3


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("nowhere.yaml", "no file `nowhere.yaml`"),
        (".", "`.` is a folder, expected a YAML file"),
        ("x" * 300, f"cannot read `{'x' * 300}`: File name too long"),
        ("a\0b", "cannot read `a\0b`: embedded null byte"),
    ],
    ids=["missing", "folder", "long-name", "nul-in-name"],
)
def test_place_without_a_file_is_a_configuration_error(place: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(place)
    assert caught.value.message == expected


def test_later_sources_win_and_each_value_keeps_its_origin() -> None:
    FILE.write_text("training:\n  epochs: 1\n  seed: 1\n  batch_size: 1\n", encoding="utf-8")
    config = read_config(FILE, words=["training.seed=2", "training.batch_size=2"], settings={"training.batch_size": 3})
    training = config.settings.training
    assert (training.epochs, training.seed, training.batch_size) == (1, 2, 3)
    assert config.origins == {
        "training.epochs": "file c.yaml", "training.seed": "command line", "training.batch_size": "settings",
    }  # fmt: skip


def test_nested_and_dotted_settings_mean_the_same() -> None:
    nested, dotted = ({"training": {"epochs": 3}}, {"training.epochs": 3})
    assert read_config(settings=nested) == read_config(settings=dotted)


def test_truth_value_is_not_a_number_in_python_settings() -> None:
    with pytest.raises(ConfigError, match=r"training\.epochs +expected a number"):
        read_config(settings={"training.epochs": True})


AWKWARD = [
    "no", "off", "yes", "true", "010", "1e-4", "12:30", "null", "~", "", " ", " both ", "标签", "a: b", "# x", "'", '"',
    "a\\b", "- a", "[a]", "{a}", "&a", "*a", "!!str", "%", "@", "`", "a\nb", "tab\t", "nul\0", "del\x7f", "nel\x85",
    "a\u2028b", "\ufeffbom", "zero\u200bwidth", "😀\n", "\ud800", "\ufffe", "𝔘\U0010ffff", "---", "...", "=", "<<",
]  # fmt: skip


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_awkward_text_survives_the_written_yaml(text: str) -> None:
    before = read_config(settings={"data.source": text, "data.label_column": text, "data.delimiter": text})
    after = from_yaml(before.to_yaml())
    assert after.settings == before.settings


def test_written_yaml_is_yaml_for_other_readers_too() -> None:
    config = read_config(settings={"data.label_column": "标签: 'x'", "data.image_column": "010", "training.seed": 7})
    tree = yaml.safe_load(config.to_yaml())
    assert tree["data"]["label_column"] == "标签: 'x'"
    assert tree["data"]["image_column"] == "010"
    assert tree["training"]["seed"] == 7


@pytest.mark.parametrize(
    "settings",
    [
        {"training.learning_rate": 1e-5, "training.clip_norm": None, "training.patience": 4},
        {"training.learning_rate": 123456789.123456789, "data.split": [0.6, 0.2, 0.2]},
        {"model.name": "mlp", "model.widths": [64, 32], "model.dropout": 0.5, "model.bias": False},
        {"augmentation.flip": True, "augmentation.crop": 0, "data.cache": False},
    ],
)
def test_every_kind_of_value_survives_the_written_yaml(settings: dict[str, object]) -> None:
    before = read_config(settings=settings)
    assert from_yaml(before.to_yaml()).settings == before.settings


def test_origin_stands_as_a_comment_and_cannot_break_the_file() -> None:
    config = read_config().with_chosen({"training.epochs": (5, "few\nexamples: # [ {")})
    assert config.settings.training.epochs == 5
    assert "  epochs: 5  # auto: few examples: # [ {\n" in config.to_yaml()
    assert from_yaml(config.to_yaml()).settings == config.settings


def test_example_file_is_every_default_with_its_meaning() -> None:
    assert from_yaml(example_yaml()).settings == Settings()
    names = [key.partition(".")[2] for key, _, _ in read_config().rows()]
    assert all(f"  {name}: " in example_yaml() for name in names)


def test_schema_for_editors_is_json_and_knows_every_section() -> None:
    assert set(json.loads(json.dumps(schema()))["properties"]) == set(Settings.model_fields)
