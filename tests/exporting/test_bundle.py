"""Bundles and ONNX files that are damaged, foreign or dangerous: a clear error, and no code is run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import danlu
from danlu.base.bundle import open_bundle, write_mark
from danlu.base.errors import DanluError, ModelError
from danlu.base.files import digest_of
from pictures import write_reviews

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "random": lambda data: np.random.default_rng(0).bytes(500),
    "a Git LFS pointer": lambda data: LFS,
    "a web page": lambda data: b"<!DOCTYPE html><html>404</html>",
    "one bit": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        patch.setattr("danlu.exporting.engines.SECONDS", 0.002)
        run = danlu.train(write_reviews(home / "r.csv"), {"training.epochs": 1, "training.threads": 1}, name="b")
        return danlu.export(run).resolve()


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "捆"))


def seal(folder: Path, **changes: Any) -> None:
    """Make the files that are there the ones the mark names, as whoever builds a bundle by hand could."""
    write_mark(folder, {**open_bundle(folder).content, **changes})


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "preprocessing.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_told_by_its_name(bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ModelError) as caught:
        danlu.load(bundle)
    assert name in caught.value.message
    assert caught.value.hint == "`danlu export RUN` writes it anew"
    assert damage not in ("a Git LFS pointer", "a web page") or damage in caught.value.message


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx"])
def test_pipe_or_missing_file_does_not_wait(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    if name == "model.onnx":
        with pytest.raises(ModelError, match="cannot be read: No such file"):
            danlu.load(bundle)
    os.mkfifo(bundle / name)
    with pytest.raises(ModelError, match="is not a regular file"):
        danlu.load(bundle)


def test_folder_that_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(danlu.ConfigError, match="no run"):
        danlu.load(tmp_path)


def test_newer_format_asks_for_a_newer_danlu(bundle: Path) -> None:
    values = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    (bundle / "bundle.json").write_text(json.dumps({**values, "format": 9}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"has format 9, this danlu reads up to 1[\s\S]*newer danlu"):
        danlu.load(bundle)


def test_file_names_cannot_leave_the_folder(bundle: Path) -> None:
    values = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    secret = bundle.parent / "secret"
    secret.write_bytes(b"x")
    told = {"size_bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    values["content"]["files"]["../secret"] = told
    values["content"]["variants"]["fp32"]["file"] = "../secret"
    values["sha256"] = digest_of(values["content"])
    (bundle / "bundle.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ModelError, match="made by something else"):
        danlu.load(bundle)


def test_other_number_of_classes_is_refused(bundle: Path) -> None:
    seal(bundle, classes=["a", "b", "c"])
    with pytest.raises(ModelError, match=r"has 2 scores, the bundle 3 classes"):
        danlu.load(bundle)


def test_mark_without_what_is_needed_is_refused(bundle: Path) -> None:
    for key in ("classes", "variants", "default", "calibration", "kind"):
        content = {name: value for name, value in open_bundle(bundle).content.items() if name != key}
        values = {"format": 1, "sha256": digest_of(content), "content": content}
        whole = (bundle / "bundle.json").read_bytes()
        (bundle / "bundle.json").write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(ModelError, match="made by something else"):
            danlu.load(bundle)
        (bundle / "bundle.json").write_bytes(whole)


HOW = {"threads": 1, "optimization": "all", "spinning": False}
WRONG: dict[str, dict[str, Any]] = {
    "classes": {"none": None, "number": 3, "text": "ab", "nested": [["a"], ["b"]], "twice": ["a", "a"], "empty": []},
    "calibration": {
        "list": [],
        "cold": {"temperature": 1e-320, "examples": 1, "threshold": None, "max_error": None},
        "hot": {"temperature": 1e300, "examples": 1, "threshold": None, "max_error": None},
        "text": {"temperature": 1.0, "examples": 1, "threshold": "0.5", "max_error": 0.1},
        "truth": {"temperature": 1.0, "examples": 1, "threshold": True, "max_error": 0.1},
    },
    "default": {"list": ["fp32"], "none": None, "unknown": "int4"},
    "variants": {
        "list": ["fp32"],
        "none": None,
        "no file": {"fp32": {"how": HOW}},
        "file is a number": {"fp32": {"file": 3, "how": HOW}},
        "no how": {"fp32": {"file": "model.onnx"}},
        "more in how": {"fp32": {"file": "model.onnx", "how": {**HOW, "more": 1}}},
        "optimization": {"fp32": {"file": "model.onnx", "how": {**HOW, "optimization": "best"}}},
        "threads as text": {"fp32": {"file": "model.onnx", "how": {**HOW, "threads": "a"}}},
        "too many threads": {"fp32": {"file": "model.onnx", "how": {**HOW, "threads": 2**40}}},
        "fewer than no threads": {"fp32": {"file": "model.onnx", "how": {**HOW, "threads": -5}}},
        "spinning as text": {"fp32": {"file": "model.onnx", "how": {**HOW, "spinning": "no"}}},
    },
    "files": {"list": [], "entry": {"model.onnx": []}, "NUL": {"a\0b": {"size_bytes": 1, "sha256": ""}}},
    "kind": {"list": [], "sounds": "sounds"},
}


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, values in WRONG.items() for name in values])
def test_value_of_a_wrong_type_is_refused(bundle: Path, key: str, name: str) -> None:
    content = {**open_bundle(bundle).content, key: WRONG[key][name]}
    (bundle / "bundle.json").write_text(
        json.dumps({"format": 1, "sha256": digest_of(content), "content": content}), encoding="utf-8"
    )
    with pytest.raises(ModelError, match=f"made by something else than danlu: .*{key}|calibration is damaged"):
        danlu.load(bundle)


@pytest.mark.parametrize("format", ["1", "1e999", "0", "-1", "true", "1.9", "null"])
def test_format_is_a_whole_number(bundle: Path, format: str) -> None:
    text = (bundle / "bundle.json").read_text(encoding="utf-8")
    (bundle / "bundle.json").write_text(text.replace('"format": 1,', f'"format": {format},', 1), encoding="utf-8")
    if format == "1":
        danlu.load(bundle)
        return
    with pytest.raises(ModelError, match=r"is damaged|is none"):
        danlu.load(bundle)


def change_tokenizer(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**values, "tokenizer": {**values["tokenizer"], **changes}}


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {},
        lambda v: [],
        lambda v: {**v, "max_length": 0},
        lambda v: {**v, "max_length": "9"},
        lambda v: {**v, "tokens": "syllables"},
        lambda v: change_tokenizer(
            v, truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}
        ),
        lambda v: change_tokenizer(v, normalizer={"type": "Prepend", "prepend": "0123456789"}),
        lambda v: change_tokenizer(v, model={**v["tokenizer"]["model"], "vocab": {"a": 0}}),
        lambda v: change_tokenizer(v, model={**v["tokenizer"]["model"], "vocab": {"<pad>": 0, "<unk>": 1, "a": 10**9}}),
        lambda v: change_tokenizer(v, model=None),
    ],
)
def test_tokenizer_that_danlu_would_not_write_is_refused(bundle: Path, change: Callable[[Any], Any]) -> None:
    path = bundle / "preprocessing.json"
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    seal(bundle)
    with pytest.raises(ModelError, match="cannot be read"):
        danlu.load(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"height": -4},
        {"height": "16"},
        {"width": 16.5},
        {"height": 10**6, "width": 10**6},
        {"std": [0.0]},
        {"std": [-1.0]},
        {"std": None},
        {"mean": "a"},
        {"mean": [float("nan")]},
        {"channels": 7},
        {"resize": "squash"},
        {"more": 1},
    ],
)
def test_recipe_of_images_that_danlu_would_not_write_is_refused(change: dict[str, Any]) -> None:
    from danlu.inputs.images import ImageRecipe

    values = ImageRecipe(16, 16, 1).geometry() | {"mean": [0.5], "std": [0.5]}
    ImageRecipe.from_json(values)
    with pytest.raises(ModelError, match="preprocessing is damaged"):
        ImageRecipe.from_json(values | change)


def test_file_far_larger_than_it_was_is_not_read(bundle: Path) -> None:
    for name in ("model.onnx", "bundle.json"):
        whole = (bundle / name).read_bytes()
        os.truncate(bundle / name, 2**40)
        with pytest.raises(ModelError, match=r"is not what the bundle was made with|is damaged"):
            danlu.load(bundle)
        (bundle / name).write_bytes(whole)


def test_scores_that_are_not_one_row_an_input_are_refused(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "scores":
                node.output[place] = "each"
    model.graph.node.append(helper.make_node("ReduceMean", ["each", "first"], ["scores"], keepdims=1))
    model.graph.initializer.append(helper.make_tensor("first", TensorProto.INT64, [1], [0]))
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    seal(bundle)
    with pytest.raises(ModelError, match=r"gives scores of the shape \(1, 2\) for 2 inputs"):
        danlu.load(bundle).predict(["好吃", "太慢"])


def test_every_file_is_what_the_mark_says_or_the_bundle_is_not_loaded(bundle: Path) -> None:
    for name in open_bundle(bundle).content["files"]:
        whole = (bundle / name).read_bytes()
        (bundle / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            danlu.load(bundle)
        (bundle / name).write_bytes(whole)


def test_variant_that_is_not_there_names_those_that_are(bundle: Path) -> None:
    from danlu.prediction.predictor import load_bundle

    with pytest.raises(danlu.ConfigError, match=r"no variant 'int4'[\s\S]*fp32"):
        load_bundle(open_bundle(bundle), "int4")


class Touch:
    """What a pickle can do when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("pwned", "w"))


@pytest.mark.parametrize("name", ["model.onnx", "preprocessing.json", "bundle.json", "weights.safetensors"])
def test_pickle_never_runs_code(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(pickle.dumps(Touch()))
    if name != "bundle.json":
        seal(bundle)
    script = (
        "import sys\n"
        "sys.addaudithook(lambda event, given: event == 'pickle.find_class' and sys.exit('unpickled'))\n"
        "import danlu\n"
        "try:\n"
        "    danlu.load(sys.argv[1])\n"
        "except danlu.ModelError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bundle)], capture_output=True, text=True, check=False)
    assert "unpickled" not in done.stderr
    assert done.stdout == ("" if name == "weights.safetensors" else "refused\n")  # weights are not read to answer
    assert not Path("pwned").exists()


def graph(*, operator: str = "Cast", opset: int = 20, **other: Any) -> bytes:
    """A tiny ONNX file: as many scores as classes from the first tokens."""
    inputs = [
        helper.make_tensor_value_info(other.get("input", "inputs"), TensorProto.INT64, other.get("shape", ["b", "l"]))
    ]
    outputs = [helper.make_tensor_value_info(other.get("output", "scores"), TensorProto.FLOAT, ["b", 2])]
    nodes = [helper.make_node(operator, [inputs[0].name], [outputs[0].name], to=TensorProto.FLOAT)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", opset)]
    )
    model.ir_version = 10
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (graph(operator="Sorcery"), "cannot be run"),
        (graph(opset=999), "cannot be run"),
        (graph(shape=["b", "l", 3]), "does not read texts as danlu writes them|cannot be run"),
        (graph(input="other"), "does not read texts as danlu writes them"),
        (graph(output="other"), "does not read texts as danlu writes them"),
        (graph()[:-40], "cannot be run"),
    ],
    ids=["unknown operator", "newer opset", "wrong input shape", "wrong input", "wrong output", "truncated"],
)
def test_onnx_file_that_cannot_be_used_is_refused(bundle: Path, data: bytes, told: str) -> None:
    (bundle / "model.onnx").write_bytes(data)
    seal(bundle)
    with pytest.raises(ModelError, match=told) as caught:
        danlu.load(bundle)
    assert "\n" not in caught.value.message


def test_model_that_computes_nan_gives_no_answer(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    seal(bundle)
    with pytest.raises(ModelError, match="answers 1 of 1 inputs with NaN"):
        danlu.load(bundle).predict("好吃")


def test_onnx_file_reads_no_data_outside(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    large = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (bundle.parent / "outside.bin").write_bytes(large.raw_data)
    large.ClearField("raw_data")
    large.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../outside.bin"), ("offset", "0")):
        entry = large.external_data.add()
        entry.key, entry.value = key, value
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    seal(bundle)
    with pytest.raises(ModelError, match="cannot be run"):
        danlu.load(bundle)


def test_every_file_is_named_and_nothing_else_lies_about(made: Path) -> None:
    content = open_bundle(made).content
    assert {path.name for path in made.iterdir()} == {*content["files"], "bundle.json"}
    assert {
        "model.onnx",
        "weights.safetensors",
        "preprocessing.json",
        "reference.json",
        "parity.json",
        "README.md",
    } <= set(content["files"])
    assert not [path for path in made.parent.iterdir() if path.name.startswith(".bundle")]
    open_bundle(made).verify()


def test_card_tells_data_scores_and_limits_and_no_place_on_this_machine(made: Path) -> None:
    text = (made / "README.md").read_text(encoding="utf-8")
    assert "r.csv" in text and str(made.parent.parent.parent) not in text
    assert "## Limits" in text and "It was not evaluated" in text
    for path in made.iterdir():
        for place in (made.parent.parent.parent, Path(danlu.__file__).parent, Path(onnx.__file__).parent.parent):
            assert str(place).encode() not in path.read_bytes(), path.name


def test_resumed_run_loses_its_bundle(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), {"training.epochs": 1, "training.threads": 1})
    danlu.export(run)
    run.update(state="interrupted")
    danlu.resume(run)
    assert not run.bundle_folder.exists()


def test_reference_statistics_are_those_of_the_validation_part(made: Path) -> None:
    reference = json.loads((made / "reference.json").read_text(encoding="utf-8"))
    run = danlu.Run(made.parent)
    assert reference["examples"] == run.status()["parts"]["validation"]
    assert sum(reference["counts"].values()) == reference["examples"]
    assert list(reference["distributions"]) == [
        "confidence",
        "entropy",
        "distance",
        *(f"direction {number}" for number in range(1, 9)),
    ]
    assert all(0 <= value <= 1 for value in reference["distributions"]["confidence"])
    assert np.shape(reference["features"]["directions"]) == (8, len(reference["features"]["mean"]))


def test_errors_of_bundles_are_danlus(bundle: Path) -> None:
    for path in sorted(bundle.iterdir()):
        whole = path.read_bytes()
        for data in (b"", b"{}", b"[]", b"null", whole[:-1], whole + b" "):
            path.write_bytes(data)
            with suppress(DanluError):
                danlu.load(bundle)
        path.write_bytes(whole)


def test_measured_way_to_run_holds_only_with_as_many_cores(bundle: Path) -> None:
    content = open_bundle(bundle).content
    variants = {
        "fp32": {**content["variants"]["fp32"], "how": {"threads": 1, "optimization": "basic", "spinning": True}}
    }
    threads = {}
    for cores in (content["cores"], content["cores"] + 1):
        seal(bundle, variants=variants, cores=cores)
        session = danlu.load(bundle).engine.session  # type: ignore[attr-defined]
        threads[cores] = session.get_session_options().intra_op_num_threads
    assert list(threads.values()) == [1, 0]


def test_threads_spin_only_where_nothing_else_needs_the_processor(bundle: Path) -> None:
    variants = open_bundle(bundle).content["variants"]
    how = {"threads": 2, "optimization": "basic", "spinning": True}
    seal(bundle, variants={name: {**told, "how": how} for name, told in variants.items()})

    def entry(spinning: bool) -> str:
        session = danlu.load(bundle, spinning=spinning).engine.session  # type: ignore[attr-defined]
        return str(session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning"))

    assert (entry(True), entry(False)) == ("1", "0")


def test_other_threshold_tells_that_the_bundle_has_the_old_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), {"training.epochs": 1, "training.threads": 1})
    danlu.export(run)
    danlu.evaluate(run, max_error=0.3)
    assert "the run's bundle has the threshold it was made with" in capsys.readouterr().err
