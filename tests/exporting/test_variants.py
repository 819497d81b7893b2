"""int8 files: which products they compute in int8, and what is told of them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import danlu
from danlu.base.bundle import open_bundle
from danlu.exporting.int8 import PRODUCTS, int8_files
from danlu.inputs.texts import groups_of_similar_length, pad_rows
from danlu.prediction.predictor import load_bundle
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 1, "training.threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> danlu.Run:
    home = tmp_path_factory.mktemp("variants")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        found = danlu.train(write_pictures(home / "p", size=16), {**QUICK, "model.name": "digit_cnn"}, name="v")
    return danlu.Run(found.folder.resolve())


def in_int8(data: bytes) -> list[bool]:
    """Whether each product reads what a dequantize node gives, in the order of the graph."""
    graph = onnx.load_model_from_string(data).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type in PRODUCTS]
    return [made_by.get(node.input[1]) == "DequantizeLinear" for node in products]


def test_last_product_stays_in_float32_and_the_first_in_one_way(run: danlu.Run) -> None:
    model = (danlu.export(run) / "model.onnx").read_bytes()
    files = int8_files(model, [np.zeros((4, 3, 16, 16), np.uint8), np.full((4, 3, 16, 16), 255, np.uint8)])
    count = len(in_int8(model))
    assert count > 2
    assert {made_as: in_int8(data) for made_as, data in files.items()} == {
        "int8": [True] * (count - 1) + [False],
        "int8 after the first product": [False] + [True] * (count - 2) + [False],
    }


def test_weights_have_seven_bits_so_that_no_processor_saturates(run: danlu.Run) -> None:
    model = (danlu.export(run) / "model.onnx").read_bytes()
    files = int8_files(model, [np.random.default_rng(0).integers(0, 255, (8, 3, 16, 16), dtype=np.uint8)])
    for data in files.values():
        tensors = onnx.load_model_from_string(data).graph.initializer
        weights = [numpy_helper.to_array(tensor) for tensor in tensors if tensor.data_type == onnx.TensorProto.INT8]
        weights = [values for values in weights if values.ndim > 1]
        assert weights
        assert all(np.abs(values.astype(int)).max() <= 64 for values in weights)


def test_change_of_int8_is_told_with_its_interval(
    run: danlu.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = danlu.export(run, "int8", out=tmp_path / "b", max_drop=0.5)
    told = capsys.readouterr().err
    kept = json.loads((folder / "parity.json").read_text(encoding="utf-8"))["variants"]["int8"]
    low, high = (100 * bound for bound in kept["validation"]["change_interval"])
    validation = kept["validation"]
    assert f"int8 gives {validation['same_labels']} of {validation['examples']} the same label" in told
    assert f"points (95 % interval {low:+.2f} to {high:+.2f})" in told
    assert f"accuracy: on {validation['examples']} validation examples" in told
    assert kept["test"]["examples"] == run.status()["parts"]["test"]
    shipped = json.loads((folder / "engines.json").read_text(encoding="utf-8"))["shipped"]
    scored = {row["name"]: row["accuracy"] for row in shipped}
    assert scored["int8"] - scored["fp32"] == pytest.approx(kept["validation"]["change"])


@pytest.mark.parametrize("format", ["torchscript", "torch-export", "triton"])
def test_table_of_a_file_is_printed_and_kept(
    run: danlu.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    folder = danlu.export(run, format, out=tmp_path / "b")
    rows = json.loads((folder / "engines.json").read_text(encoding="utf-8"))["shipped"]
    assert [row["name"] for row in rows] == ["trained", format]
    assert rows[0]["accuracy"] == rows[1]["accuracy"]
    assert rows[1]["size_bytes"] == pytest.approx(
        sum(path.stat().st_size for path in folder.rglob("*") if path.suffix not in (".json", ".md") and path.is_file())
    )
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines() if "." in line][:2] == ["trained", format]


def test_bundle_answers_texts_together_as_each_alone(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv", 60), {**QUICK, "model.name": "bilstm"})
    predictor = load_bundle(open_bundle(danlu.export(run)))
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 9, length).tolist() for length in rng.integers(1, 60, 37)]
    together = predictor.engine.probabilities(pad_rows(rows))
    alone = np.concatenate([predictor.engine.probabilities(np.array([row])) for row in rows])
    assert together == pytest.approx(alone, abs=1e-6)
    groups = groups_of_similar_length(pad_rows(rows), 8)
    assert sorted(place for places, _ in groups for place in places) == list(range(37))
    assert [rows_.shape[1] for _, rows_ in groups] == sorted(rows_.shape[1] for _, rows_ in groups)


@pytest.mark.parametrize("format", ["torchscript", "torch-export", "triton"])
def test_files_tell_no_place_on_this_machine(run: danlu.Run, tmp_path: Path, format: str) -> None:
    folder = danlu.export(run, format, out=tmp_path / "b")
    places = [str(Path(module.__file__).parent).encode() for module in (danlu, torch, onnx)]
    contents = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, data in list(contents.items()):
        if zipfile.is_zipfile(name):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                contents.update({f"{name}: {inner}": archive.read(inner) for inner in archive.namelist()})
    assert not [name for name, data in contents.items() if any(place in data for place in places)]


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_card_is_enough_to_answer_without_danlu(tmp_path: Path, kind: str) -> None:
    import onnxruntime
    from PIL import Image, ImageOps
    from tokenizers import Tokenizer

    if kind == "images":
        data = write_pictures(tmp_path / "p", size=40)
        item = next(data.rglob("*.jpg"))
        Image.open(item).resize((50, 37)).save(item.with_suffix(".png"))
        item = item.with_suffix(".png")
        folder = danlu.export(danlu.train(data, {**QUICK, "data.image_size": 16}))
    else:
        folder = danlu.export(danlu.train(write_reviews(tmp_path / "r.csv", 60), QUICK))
        item = "很快，好吃，味道足"
    card = (folder / "README.md").read_text(encoding="utf-8")
    values = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    if kind == "images":
        assert "`PIL.ImageOps.fit(image, (16, 16), PIL.Image.Resampling.BILINEAR)`" in card
        fitted = ImageOps.fit(Image.open(item).convert("RGB"), (16, 16), Image.Resampling.BILINEAR)
        inputs = np.asarray(fitted).transpose(2, 0, 1)[None]
    else:
        assert f"the first {values['max_length']:,} of each text" in card
        tokenizer = Tokenizer.from_str(json.dumps(values["tokenizer"]))
        inputs = np.array([tokenizer.encode(item, add_special_tokens=False).ids])
    temperature = float(re.search(r"softmax\(scores / ([0-9.e-]+)\)", card)[1])
    scores = onnxruntime.InferenceSession(folder / "model.onnx").run(["scores"], {"inputs": inputs})[0][0]
    powers = np.exp(scores / temperature - (scores / temperature).max())
    classes = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["content"]["classes"]
    found = dict(zip(classes, powers / powers.sum(), strict=True))
    assert found == pytest.approx(danlu.load(folder).predict([item])[0].probabilities, abs=1e-5)


def test_export_of_another_run_or_format_is_not_replaced(run: danlu.Run, tmp_path: Path) -> None:
    other = danlu.train(write_reviews(tmp_path / "r.csv", 60), QUICK, name="other")
    bundle = danlu.export(run, out=tmp_path / "a")
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    for place, format in ((other, "onnx"), (run, "torchscript")):
        with pytest.raises(danlu.ConfigError, match=r"is the bundle of `v`[\s\S]*--out"):
            danlu.export(place, format, out=bundle)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    files = danlu.export(run, "torchscript", out=tmp_path / "f")
    for place, format in ((other, "torchscript"), (run, "torch-export"), (run, "onnx")):
        with pytest.raises(danlu.ConfigError, match="is `v` as torchscript"):
            danlu.export(place, format, out=files)
    danlu.export(run, "torchscript", out=files)
    (bundle / "diary.txt").write_text("x")
    with pytest.raises(danlu.ConfigError, match=r"holds `diary\.txt`, which is not of the bundle"):
        danlu.export(run, out=bundle)
    (bundle / "bundle.json").write_text("{}")
    with pytest.raises(danlu.ConfigError, match="is a damaged bundle"):
        danlu.export(run, out=bundle)


def test_damaged_bundle_of_the_run_itself_is_written_anew(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv", 60), QUICK)
    (danlu.export(run) / "bundle.json").write_text("{}")
    open_bundle(danlu.export(run)).verify()


def test_variant_that_goes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv", 60), QUICK)
    danlu.export(run, "int8", max_drop=0.5)
    assert "replaces" not in capsys.readouterr().err
    danlu.export(run, "dynamic-int8", max_drop=0.5)
    assert "it replaces a bundle that had int8 too" in capsys.readouterr().err


def test_limit_that_means_nothing_is_refused(run: danlu.Run) -> None:
    with pytest.raises(danlu.ConfigError, match="torchscript loses no accuracy"):
        danlu.export(run, "torchscript", max_drop=0.1)
    with pytest.raises(danlu.ConfigError, match="share from 0 to below 1"):
        danlu.export(run, "int8", max_drop=2.0)


def test_link_and_empty_folder_are_written_where_they_lead(
    run: danlu.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "真")
    (tmp_path / "真").mkdir()
    danlu.export(run, out=tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and open_bundle(tmp_path / "真").classes
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    danlu.export(run, out=".")
    assert open_bundle(tmp_path / "here").classes
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") and path.suffix in (".tmp", ".old")]
    with pytest.raises(danlu.ConfigError, match="no name"):
        danlu.export(run, out="")


def test_run_in_use_or_not_finished_is_not_exported(run: danlu.Run, tmp_path: Path) -> None:
    with run.hold(), pytest.raises(danlu.MachineError, match="is in use"):
        danlu.export(run, out=tmp_path / "b")
    run.update(state="interrupted")
    try:
        with pytest.raises(danlu.ConfigError, match="is not finished"):
            danlu.export(run, out=tmp_path / "b")
    finally:
        run.update(state="finished")
    assert not (tmp_path / "b").exists()


def test_what_a_killed_export_left_is_removed(run: danlu.Run, tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [tmp_path / f".b.{dead.pid}.tmp", tmp_path / f".b.{dead.pid}.old"]
    kept = [tmp_path / f".b.{os.getppid()}.tmp", tmp_path / f".bb.{dead.pid}.tmp", tmp_path / ".b.tmp"]
    for folder in (*left, *kept):
        folder.mkdir()
        (folder / "x").write_text("x")
    danlu.export(run, out=tmp_path / "b")
    assert not any(folder.exists() for folder in left)
    assert all(folder.exists() for folder in kept)
