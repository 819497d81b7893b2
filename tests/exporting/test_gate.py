"""The parts of the gate one by one, with engines that answer what the test wants."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import danlu
from danlu.base.bundle import open_bundle
from danlu.base.errors import ModelError
from danlu.exporting import bundling, engines
from danlu.exporting.bundling import _default
from danlu.exporting.card import card
from danlu.exporting.engines import Fastest, Measured, measure_beside, measure_engines
from danlu.exporting.exported import exported_of
from danlu.exporting.held_out import HeldOut, _as_sent
from danlu.exporting.parity import prove_equal, prove_shipped
from danlu.exporting.variants import Candidate, Change, change_of, judged_as_run
from danlu.inputs.images import ImageRecipe, decode_image
from danlu.inputs.texts import TextRecipe, pad_rows
from danlu.prediction.onnx_engine import HowToRun, OnnxEngine
from danlu.prediction.predictor import Predictor, load_bundle
from danlu.scores.calibration import Calibration
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 1, "training.threads": 1}
RECIPE = ImageRecipe(8, 8, 3, mean=(0.5,) * 3, std=(0.5,) * 3)
TEXTS = ("很快，好吃", "太慢，难吃", "味道足", "鑫")


class Fake:
    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.answer = answer

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        return self.answer(inputs)


def shares(classes: int, *, change: float = 0.0, first: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Nearly equal probabilities; class `first` a little above, all of them moved by `change` to and fro."""

    def answer(inputs: np.ndarray) -> np.ndarray:
        row = np.full(classes, 1 / classes)
        row[first] *= 1.05
        row[-1] += change
        row[-2] -= change
        return np.repeat(row[None], len(inputs), 0)

    return answer


def of_images(answer: Callable[[np.ndarray], np.ndarray], classes: int, **more: Any) -> Predictor:
    return Predictor("images", [str(n) for n in range(classes)], RECIPE, Fake(answer), **more)


@pytest.fixture(scope="module")
def pictures() -> HeldOut:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 3, 8, 8), dtype=np.uint8)
    items = []
    for one in pixels:
        out = io.BytesIO()
        Image.fromarray(one.transpose(1, 2, 0)).save(out, "PNG")
        items.append(out.getvalue())
    return HeldOut(tuple("abcde"), tuple(items), pixels, np.zeros(5, np.int64))


def test_other_label_within_the_limit_is_refused(pictures: HeldOut) -> None:
    trained, other = (of_images(shares(1000, first=first), 1000) for first in (0, 1))
    with pytest.raises(ModelError, match="does not answer as the trained model"):
        prove_equal(trained, other, pictures)


def test_classes_all_but_equally_probable_may_change_places(pictures: HeldOut) -> None:
    trained, other = (of_images(lambda x, p=p: np.repeat([[p, 1 - p]], len(x), 0), 2) for p in (0.50001, 0.49999))
    way = prove_equal(trained, other, pictures).ways[0]
    assert way.same_labels == 0 and way.largest_gap == pytest.approx(2e-5)


@pytest.mark.parametrize(("change", "passes"), [(9e-5, True), (1.1e-4, False)])
def test_largest_gap_is_held_to_one_in_ten_thousand(pictures: HeldOut, change: float, passes: bool) -> None:
    trained = of_images(shares(3), 3)

    def one_of_them(inputs: np.ndarray) -> np.ndarray:
        found = shares(3)(inputs)
        found[-1] = shares(3, change=change)(inputs)[-1]
        return found

    if passes:
        parity = prove_equal(trained, of_images(one_of_them, 3), pictures)
        assert max(way.largest_gap for way in parity.ways) == pytest.approx(change)
        return
    with pytest.raises(ModelError, match=r"limit is 0\.0001"):
        prove_equal(trained, of_images(one_of_them, 3), pictures)


def test_nan_is_refused(pictures: HeldOut) -> None:
    broken = of_images(lambda x: np.full((len(x), 3), np.nan), 3)
    with pytest.raises(ModelError, match="NaN"):
        prove_equal(of_images(shares(3), 3), broken, pictures)
    with pytest.raises(ModelError, match="NaN"):
        change_of(of_images(shares(3), 3), broken, pictures)


def test_texts_are_compared_with_the_trained_model_and_not_with_the_export_itself() -> None:
    recipe = TextRecipe.fit(TEXTS, tokens="characters", max_length=9, min_count=1)
    rows = recipe.token_ids(TEXTS)
    held = HeldOut(TEXTS, TEXTS, rows, np.zeros(4, np.int64))
    trained, other = (Predictor("texts", "abc", recipe, Fake(shares(3, change=c))) for c in (0.0, 0.1))
    assert {way.way for way in prove_equal(trained, trained, held).ways} > {"cut to 1", "longer than is read"}
    with pytest.raises(ModelError, match="text, 1 at a time"):
        prove_equal(trained, other, held)


@pytest.mark.parametrize("calibration", [Calibration(0.5), Calibration(1.0, 9, 0.7, 0.1)])
def test_other_calibration_is_refused(pictures: HeldOut, calibration: Calibration) -> None:
    with pytest.raises(ModelError, match="another calibration"):
        prove_equal(of_images(shares(3), 3), of_images(shares(3), 3, calibration=calibration), pictures)


def test_example_that_cannot_be_read_is_named(pictures: HeldOut) -> None:
    items = (*pictures.items[:3], b"no image", pictures.items[4])
    broken = HeldOut(pictures.keys, items, pictures.inputs, pictures.labels)
    with pytest.raises(ModelError, match="cannot read the held-out example `d`"):
        prove_equal(of_images(shares(3), 3), of_images(shares(3), 3), broken)


def test_variant_whose_answers_depend_on_the_batch_is_what_was_judged(pictures: HeldOut) -> None:
    def of_the_batch(inputs: np.ndarray) -> np.ndarray:
        return shares(3, change=0.001 * len(inputs))(inputs)

    prove_shipped(of_images(of_the_batch, 3), of_images(of_the_batch, 3), pictures)

    def of_nine(inputs: np.ndarray) -> np.ndarray:
        return of_the_batch(inputs) if len(inputs) == 1 else of_the_batch(inputs[[0]].repeat(9, 0))[: len(inputs)]

    with pytest.raises(ModelError, match="as shipped, 7 at a time"):
        prove_shipped(of_images(of_the_batch, 3), of_images(of_nine, 3), pictures)


def test_pixels_that_are_in_no_file_are_sent_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(_as_sent(pixels, "images"), RECIPE), pixels.transpose(2, 0, 1))


def test_five_hundred_examples_are_asked_where_there_are_more(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv", 2000), {**QUICK, "model.name": "ngrams"})
    parity = json.loads((danlu.export(run) / "parity.json").read_text(encoding="utf-8"))
    assert {way["examples"] for way in parity["ways"]} == {500}


# Which way to run, and which variant answers


def row(milliseconds: float) -> Measured:
    return Measured("onnxruntime", "fp32", 1, "all", False, milliseconds, 1.0)


def candidate(examples: int) -> Candidate:
    change = Change(examples, 0.9, 0.0, (-0.01, 0.01), examples, 0.0)
    return Candidate("int8", "int8", b"", of_images(shares(3), 3), change=change)


@pytest.mark.parametrize(
    ("fp32", "int8", "examples", "answers"),
    [(2.0, 1.0, 500, "int8"), (1.05, 1.0, 500, "fp32"), (1.0, 2.0, 500, "fp32"), (2.0, 1.0, 199, "fp32")],
    ids=["clearly faster", "hardly faster", "slower", "too few examples to know the loss"],
)
def test_int8_answers_where_it_is_clearly_faster_and_its_loss_is_known(
    fp32: float, int8: float, examples: int, answers: str
) -> None:
    chosen = {"fp32": Candidate("fp32", "fp32", b"", of_images(shares(3), 3)), "int8": candidate(examples)}
    fastest = {name: Fastest(HowToRun(), cost, row(cost)) for name, cost in (("fp32", fp32), ("int8", int8))}
    assert _default(chosen, fastest, 0.005)[0] == answers


class ByTheWay(Candidate):
    """Right with one thread, and with two wrong."""

    def open(self, how: HowToRun) -> Fake:  # type: ignore[override]
        return Fake(shares(3, first=how.threads - 1))


def test_variant_is_judged_again_in_the_way_it_will_run(pictures: HeldOut) -> None:
    examples = HeldOut(pictures.keys, pictures.items, pictures.inputs, np.zeros(len(pictures.keys), np.int64))
    one_thread, two_threads = HowToRun(1), HowToRun(2)
    change = Change(5, 1.0, 0.0, (0.0, 0.0), 5, 0.0)
    made = ByTheWay("int8", "int8", b"", of_images(shares(3), 3), one_thread, change)
    found = judged_as_run(made, one_thread, made, examples, 0.005)
    assert found.change is not None and (found.how, found.change.accuracy) == (one_thread, 1.0)
    with pytest.raises(ModelError, match=r"changes accuracy by -100\.00 points"):
        judged_as_run(made, two_threads, made, examples, 0.005)


@pytest.mark.parametrize("fast", [1, 2])
def test_trained_model_is_measured_in_its_faster_way(fast: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(_: Any, __: np.ndarray) -> tuple[float, float]:
        return (1.0, 1.0) if torch.get_num_threads() == fast else (2.0, 2.0)

    monkeypatch.setattr(engines, "available_cores", lambda: 2)
    monkeypatch.setattr(engines, "_both", both)
    before = torch.get_num_threads()
    trained, _ = measure_beside(Fake(shares(3)), Fake(shares(3)), np.zeros((2, 3, 8, 8), np.uint8))
    assert (trained.threads, trained.p50_ms, torch.get_num_threads()) == (fast, 1000, before)


def test_way_that_costs_least_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [HowToRun(1, "all"), HowToRun(2, "all"), HowToRun(2, "all", True)]
    seconds = {ways[0]: (1.0, 9.0), ways[1]: (2.0, 2.0), ways[2]: (1.5, 7.0)}
    monkeypatch.setattr(engines, "_ways_to_run", lambda: ways)
    monkeypatch.setattr(engines, "_both", lambda engine, _: seconds.get(engine, (3.0, 30.0)))
    table, fastest = measure_engines({"fp32": lambda how: how}, Fake(shares(3)), np.zeros((2, 3, 8, 8), np.uint8))  # type: ignore[arg-type,return-value]
    assert fastest["fp32"].how == ways[1]
    assert fastest["fp32"].row.p50_ms == 2000 and fastest["fp32"].row.per_second == 32
    assert [line.engine for line in table] == ["onnxruntime"] * 3 + ["torch"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[danlu.Run, Path]:
    home = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        patch.setattr("danlu.exporting.engines.SECONDS", 0.002)
        run = danlu.train(write_pictures(home / "p"), {**QUICK, "model.name": "mlp", "data.image_size": 16}, name="g")
        run = danlu.Run(run.folder.resolve())
        danlu.evaluate(run)
        return run, danlu.export(run, "int8", max_drop=0.5)


def test_bundle_runs_in_the_way_that_was_fastest(
    shipped: tuple[danlu.Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, way = bundling.measure_engines, HowToRun(1, "extended")

    def measured(*given: Any) -> Any:
        table, fastest = real(*given)
        return table, {name: replace(one, how=way) for name, one in fastest.items()}

    monkeypatch.setattr(bundling, "measure_engines", measured)
    bundle = open_bundle(danlu.export(shipped[0], out=tmp_path / "out"))
    assert bundle.variants["fp32"]["how"] == asdict(way)


def test_bundle_answers_by_its_default(shipped: tuple[danlu.Run, Path]) -> None:
    bundle = open_bundle(shipped[1])
    for name in bundle.variants:
        changed = type(bundle)(bundle.folder, {**bundle.content, "default": name})
        assert load_bundle(changed).engine.name.endswith(bundle.variants[name]["file"])  # type: ignore[attr-defined]
    fp32, int8 = (bundle.read(told["file"]) for told in bundle.variants.values())
    assert len(int8) < len(fp32) / 2


@pytest.mark.parametrize("optimization", ["basic", "extended", "all"])
@pytest.mark.parametrize("spinning", [False, True])
def test_engine_runs_as_it_is_told(shipped: tuple[danlu.Run, Path], optimization: str, spinning: bool) -> None:
    model = (shipped[1] / "model.onnx").read_bytes()
    engine = OnnxEngine(model, name="m", kind="images", num_classes=3, how=HowToRun(2, optimization, spinning))
    options = engine.session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.graph_optimization_level == getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{optimization.upper()}"
    )
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spinning))


def test_features_are_what_the_last_layer_reads(shipped: tuple[danlu.Run, Path]) -> None:
    run, folder = shipped
    pixels = np.random.default_rng(0).integers(0, 255, (4, 3, 16, 16), dtype=np.uint8)
    seen: list[torch.Tensor] = []
    exported = exported_of(run)
    last = [module for module in exported.model.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    exported(torch.from_numpy(pixels))
    found = load_bundle(open_bundle(folder), "fp32").engine.with_features(pixels)[1]  # type: ignore[attr-defined]
    assert found == pytest.approx(seen[0].detach().numpy(), abs=1e-5)


def test_statistics_are_those_of_what_answers(
    shipped: tuple[danlu.Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundling, "_default", lambda *_: ("int8", "the test wants it"))
    asked: list[Any] = []
    real = bundling.reference_statistics
    monkeypatch.setattr(
        bundling,
        "reference_statistics",
        lambda model, *inputs: (asked.append(model.engine.name), real(model, *inputs))[1],
    )
    danlu.export(shipped[0], "int8", out=tmp_path / "b", max_drop=0.5)
    assert asked[0].startswith("int8")


def test_statistics_are_of_the_highest_probability(shipped: tuple[danlu.Run, Path]) -> None:
    predictor = danlu.load(shipped[1])
    inputs = np.random.default_rng(0).integers(0, 255, (50, 3, 16, 16), dtype=np.uint8)
    found, probabilities = bundling.reference_statistics(predictor, inputs, inputs), predictor.probabilities(inputs)
    confidence = found.distributions["confidence"]
    assert (confidence[0], confidence[-1]) == pytest.approx((probabilities.max(1).min(), probabilities.max()), abs=1e-6)
    entropy = -(probabilities * np.log(probabilities)).sum(1)
    told = found.distributions["entropy"]
    assert (told[0], told[-1]) == pytest.approx((entropy.min(), entropy.max()), abs=1e-6)
    named = dict(zip(predictor.classes, np.bincount(probabilities.argmax(1), minlength=3), strict=True))
    assert found.counts == named


def test_card_tells_the_change_on_test_examples(shipped: tuple[danlu.Run, Path]) -> None:
    lines = (shipped[1] / "README.md").read_text(encoding="utf-8").splitlines()
    told = json.loads((shipped[1] / "parity.json").read_text(encoding="utf-8"))["variants"]["int8"]["test"]
    line = next(line for line in lines if line.startswith("| int8"))
    assert f"| {told['examples']} test examples |" in line and f"{100 * told['change']:+.2f} points" in line


def test_card_of_a_model_that_never_answers_says_so(shipped: tuple[danlu.Run, Path]) -> None:
    run, folder = shipped
    content = dict(open_bundle(folder).content)
    content["calibration"] = {**content["calibration"], "threshold": 1.1, "max_error": 0.01}
    facts = {"name": "g", "data": "p", "parts": run.status()["parts"], "model": "mlp"}
    text = card(content, run.model()["preprocessing"], facts, None, {})
    assert "Every answer is `unknown`" in text and "110" not in text


def test_variant_that_is_not_what_was_judged_is_refused(
    shipped: tuple[danlu.Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bundling.write_file

    def swapped(folder: Path, name: str, data: bytes) -> None:
        real(folder, name, b"garbage" if name == "model.int8.onnx" else data)

    monkeypatch.setattr(bundling, "write_file", swapped)
    with pytest.raises(ModelError, match="cannot be run"):
        danlu.export(shipped[0], "int8", out=tmp_path / "b", max_drop=0.5)
    assert not (tmp_path / "b").exists()


def test_triton_names_classes_in_order(shipped: tuple[danlu.Run, Path], tmp_path: Path) -> None:
    folder = danlu.export(shipped[0], "triton", out=tmp_path / "t")
    home = folder / "g"
    classes = shipped[0].model()["classes"]
    assert (home / "classes.txt").read_text(encoding="utf-8").splitlines() == classes
    config = (home / "config.pbtxt").read_text(encoding="utf-8")
    assert 'name: "inputs" data_type: TYPE_UINT8 dims: [3, 16, 16]' in config
    assert f'name: "scores" data_type: TYPE_FP32 dims: [{len(classes)}]' in config
    assert json.loads((folder / "export.json").read_text(encoding="utf-8"))["classes"] == classes


def test_no_texts_have_no_answers(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv", 60), {**QUICK, "model.name": "ngrams"})
    predictor = danlu.load(danlu.export(run))
    assert predictor.engine.probabilities(pad_rows([])).shape == (0, 2)
    assert predictor.predict([]) == []
