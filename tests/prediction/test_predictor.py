"""One preprocessing: the same answer by path, bytes, picture or array, alone or in a batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import danlu
from danlu.base.files import write_json
from danlu.base.settings import DataSettings
from danlu.data.prepare import prepare
from danlu.training.checkpoints import Checkpoints
from pictures import write_pictures, write_reviews

QUICK = {"training.epochs": 4, "training.threads": 1}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "p")


@pytest.fixture
def trained(pictures: Path) -> danlu.Run:
    return danlu.train(pictures, QUICK)


def test_answer_is_the_same_by_path_bytes_picture_and_array(trained: danlu.Run, pictures: Path) -> None:
    path = pictures / "blue" / "000.jpg"
    image = Image.open(path)
    answers = danlu.load(trained).predict([path, str(path), path.read_bytes(), image, np.asarray(image)])
    first = answers[0].probabilities
    assert list(first) == sorted(first, key=lambda name: -first[name])
    assert sum(first.values()) == pytest.approx(1)
    for answer in answers[1:]:
        assert answer.probabilities == pytest.approx(first, abs=1e-6)


def test_answer_does_not_depend_on_the_batch(trained: danlu.Run, pictures: Path) -> None:
    paths = sorted(pictures.rglob("*.jpg"))
    predictor = danlu.load(trained)
    for path, together in zip(paths, predictor.predict(paths), strict=True):
        assert predictor.predict(path)[0].probabilities == pytest.approx(together.probabilities, abs=1e-5)


def test_model_sees_in_prediction_the_pixels_it_was_trained_on(trained: danlu.Run, pictures: Path) -> None:
    prepared = prepare(pictures, DataSettings())
    predictor = danlu.load(trained)
    for part in prepared.parts.values():
        for pixels, index in zip(part.inputs, part.indices, strict=True):
            key = prepared.examples.keys[index]
            assert np.array_equal(predictor.read(pictures / key), pixels)


def test_unreadable_input_has_an_error_and_harms_no_other(trained: danlu.Run, pictures: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("<html>")
    good = pictures / "green" / "000.jpg"
    answers = danlu.load(trained).predict([good, bad, tmp_path / "none.jpg", 7, good])
    assert [answer.error is None for answer in answers] == [True, False, False, False, True]
    assert answers[1].error == "is not an image (a web page); read are JPEG, PNG, WebP, BMP, GIF"
    assert answers[2].error == "no such file"
    assert answers[3].error == "is not an image but int"
    assert answers[0].probabilities == answers[4].probabilities


def test_texts_are_answered(tmp_path: Path) -> None:
    run = danlu.train(write_reviews(tmp_path / "r.csv"), {"training.threads": 1})
    answers = danlu.load(run).predict(["很好吃，味道足", "太慢，凉了", "", "\u200b", 5])
    assert [answer.label for answer in answers] == ["1", "0", None, None, None]
    assert answers[2].error == "is empty"
    assert answers[3].error == "holds nothing but blanks or invisible characters"
    assert danlu.load(run).predict("难吃")[0].label == "0"


@pytest.mark.parametrize(
    "text", ["\ud800 很好吃", "很好吃" * 100_000, "很\x00好\u202e吃", "<pad><unk>", "😀", "a" * 3_000_000]
)
def test_odd_texts_are_answered_without_a_fault(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    answer = danlu.load(text_run(tmp_path_factory)).predict([text])[0]
    assert answer.error is None
    assert sum(answer.probabilities.values()) == pytest.approx(1)


_text_run: list[danlu.Run] = []


def text_run(factory: pytest.TempPathFactory) -> danlu.Run:
    if not _text_run:
        folder = factory.mktemp("texts")
        run = danlu.train(write_reviews(folder / "r.csv"), {"training.threads": 1, "training.epochs": 1})
        _text_run.append(danlu.Run(run.folder.resolve()))
    return _text_run[0]


def test_no_such_run_names_the_nearest(trained: danlu.Run) -> None:
    with pytest.raises(danlu.ConfigError, match=f"nearest: '{trained.name}'"):
        danlu.load(trained.name[:-1])


def test_weights_of_another_architecture_are_refused_by_name(trained: danlu.Run) -> None:
    description = json.loads(trained.model_file.read_text(encoding="utf-8"))
    description["options"]["hidden_size"] = 99
    del description["sha256"]  # by which the change would be known at once
    write_json(trained.model_file, description)
    with pytest.raises(danlu.ModelError, match=r"do not fit its architecture: .*weight"):
        danlu.load(trained)


def test_weights_with_nan_are_refused(trained: danlu.Run) -> None:
    from danlu.training.checkpoints import Checkpoint, load_checkpoint

    weights = load_checkpoint(trained.checkpoints_folder, "best").tensors
    name = next(key for key, value in weights.items() if value.is_floating_point())  # their order is not fixed
    weights[name] = torch.full_like(weights[name], float("nan"))
    keeper = Checkpoints(trained.checkpoints_folder)
    keeper.keep_best(weights, {"epoch": 0})
    keeper.save(Checkpoint(weights, {"epoch": 0}))
    with pytest.raises(danlu.ModelError, match=f"hold NaN or infinity: {name}"):
        danlu.load(trained)


def test_pixels_of_one_image_are_one_input(trained: danlu.Run, pictures: Path) -> None:
    predictor = danlu.load(trained)
    pixels = np.asarray(Image.open(pictures / "blue" / "000.jpg"))
    gray = pixels[:, :, 0]
    for one in (pixels, pixels.tolist(), gray, gray.tolist(), bytearray((pictures / "blue" / "000.jpg").read_bytes())):
        assert [answer.error for answer in predictor.predict(one)] == [None]
    expected = predictor.predict(pixels)[0].probabilities
    for many in (np.stack([pixels] * 3), [pixels] * 3, [pixels.tolist()] * 3, iter([pixels] * 3)):
        found = predictor.predict(many)
        assert [answer.probabilities for answer in found] == [pytest.approx(expected)] * 3
    assert len(predictor.predict([gray.tolist()] * 2)) == 2
    assert predictor.predict([]) == []


def test_input_that_is_none_is_told_and_a_model_says_what_it_is(trained: danlu.Run) -> None:
    predictor = danlu.load(trained)
    with pytest.raises(danlu.ConfigError, match="takes one input or a list of them, not NoneType"):
        predictor.predict(None)  # type: ignore[arg-type]
    assert repr(predictor) == "<Predictor of images into 3 classes>"


def test_variant_is_of_bundles_alone(trained: danlu.Run, tmp_path: Path) -> None:
    with pytest.raises(danlu.ConfigError, match="is a run, which has no variants"):
        danlu.load(trained, variant="int8")
    bundle = danlu.export(trained)
    with pytest.raises(danlu.ConfigError, match="has no variant 'int8'"):
        danlu.load(bundle, variant="int8")


def test_files_for_another_runtime_are_told_from_bundles(trained: danlu.Run) -> None:
    with pytest.raises(danlu.ConfigError, match="holds files for another runtime"):
        danlu.load(danlu.export(trained, "torchscript"))


def test_text_longer_than_is_read_says_so(tmp_path: Path) -> None:
    settings = {"training.threads": 1, "training.epochs": 1, "data.max_length": 5}
    predictor = danlu.load(danlu.train(write_reviews(tmp_path / "r.csv"), settings))
    whole, cut = predictor.predict(["很快好吃啊", "很快好吃啊，而且便宜"])
    assert (whole.is_cut, cut.is_cut) == (False, True)
    assert cut.probabilities == pytest.approx(whole.probabilities)
    assert cut.to_json()["cut"] is True and "cut" not in whole.to_json()


def test_place_that_is_no_model_says_what_it_is(trained: danlu.Run, pictures: Path) -> None:
    with pytest.raises(danlu.ConfigError, match=r"has neither `run\.json` nor `bundle\.json`"):
        danlu.load(pictures)
    with pytest.raises(danlu.ConfigError, match="a model is a folder or a Run, not int"):
        danlu.load(3)  # type: ignore[arg-type]
    bundle = danlu.export(trained)
    for verb in (danlu.export, danlu.evaluate, danlu.report):
        with pytest.raises(danlu.ConfigError, match="is a bundle, not a run"):
            verb(bundle)
    with pytest.raises(danlu.ConfigError, match="is a bundle, not a run"):
        danlu.explain(bundle, [pictures / "blue" / "000.jpg"])
