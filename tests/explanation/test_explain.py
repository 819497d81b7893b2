"""Heat where the class is decided, weight on the word that decides, and a sum that holds."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

import danlu
from danlu.base.errors import ConfigError, DataError, MachineError, ModelError
from danlu.base.log import display_width
from danlu.cli import explain as cli
from danlu.explanation.attribution import attribute_images, attribute_text
from danlu.explanation.explain import Explanation, explain, explain_gallery, load_explained, stream_explanations
from danlu.explanation.overlay import brightest_place, colors_of, overlay
from danlu.prediction.predictor import Predictor

PATCH_COLORS = {"red": (230, 30, 30), "green": (30, 230, 30), "blue": (30, 30, 230)}
IDLE_COLORS = ((230, 230, 30), (30, 230, 230), (230, 30, 230))
SIZE, PATCH = 16, 5
IMAGE_EPOCHS = {"fast_cnn": 12, "mlp": 10}
TEXT_EPOCHS = {"ngrams": 40, "textcnn": 20, "bilstm": 12}
STILL = {"augmentation.flip": False, "augmentation.crop": 0, "training.threads": 1}


def write_patches(root: Path, count: int = 30) -> Path:
    """Gray noise with a patch at the bottom right whose colour is the class; another, top left, means nothing."""
    rng = np.random.default_rng(0)
    for name, color in PATCH_COLORS.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.repeat(rng.integers(60, 200, (SIZE, SIZE, 1)), 3, 2).astype(np.uint8)
            pixels[-PATCH:, -PATCH:] = color
            pixels[:PATCH, :PATCH] = IDLE_COLORS[index % 3]
            Image.fromarray(pixels).save(root / name / f"{index:03d}.png")
    return root


def write_one_word_reviews(path: Path, count: int = 160) -> Path:
    """Noise words around one that decides: 好 or 坏."""
    rng = np.random.default_rng(2)
    filler = list("的了是我你他天地人山水火木金土日月风云雨")
    lines = ["label,review"]
    for index in range(count):
        signs = list(rng.choice(filler, 9))
        signs[int(rng.integers(9))] = "好" if index % 2 else "坏"
        lines.append(f"{index % 2},{''.join(signs)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def train(data: Path, model: str, epochs: int) -> danlu.Run:
    run = danlu.train(data, {"model.name": model, "training.epochs": epochs, **STILL})
    return danlu.Run(run.folder.resolve())


class Trained:
    """The runs of this file, each trained when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.patches = write_patches(folder / "patches")
        self.reviews = write_one_word_reviews(folder / "reviews.csv")
        self.runs: dict[str, danlu.Run] = {}

    def __call__(self, model: str) -> danlu.Run:
        if model not in self.runs:
            data = self.reviews if model in TEXT_EPOCHS else self.patches
            epochs = TEXT_EPOCHS.get(model) or IMAGE_EPOCHS[model]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DANLU_RUNS", str(self.folder / "runs"))
                self.runs[model] = train(data, model, epochs)
        return self.runs[model]

    def pictures(self, name: str, count: int = 4) -> list[Path]:
        return sorted((self.patches / name).glob("*.png"))[:count]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("explained"))


def patch_to_mean(heat: np.ndarray) -> float:
    """How much brighter the deciding patch is than the whole."""
    return float(heat[-PATCH:, -PATCH:].mean() / heat.mean())


def randomize(predictor: Predictor, seed: int = 0) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in predictor.engine.model.parameters():  # type: ignore[attr-defined]
            parameter.copy_(torch.randn_like(parameter) * 0.1)


def heats_of(predictor: Predictor, paths: list[Path], label: str) -> np.ndarray:
    return np.stack([e.heat for e in stream_explanations(predictor, paths, label=label) if e.heat is not None])


@pytest.mark.parametrize("name", PATCH_COLORS)
def test_heat_lies_on_the_patch_that_decides_and_not_on_the_one_that_does_not(trained: Trained, name: str) -> None:
    for explanation in explain(trained("fast_cnn"), trained.pictures(name)):
        assert explanation.answer == explanation.explained == name
        assert explanation.heat is not None
        assert explanation.heat.shape == (SIZE, SIZE)
        assert explanation.heat.dtype == np.float32
        assert (explanation.heat.min(), explanation.heat.max()) == (0, pytest.approx(1))
        assert patch_to_mean(explanation.heat) > 2
        assert brightest_place(explanation.heat) == "bottom right"
        assert explanation.method == "HiResCAM (Grad-CAM place by place) at layer 2 (8 × 8)"


def test_model_without_convolutions_is_explained_by_its_pixels(trained: Trained) -> None:
    paths = [path for name in PATCH_COLORS for path in trained.pictures(name)]
    explanations = explain(trained("mlp"), paths)
    assert explanations[0].method == "integrated gradients on the pixels, from the mean image, signs dropped"
    assert all(e.gap is not None and abs(e.gap) < 0.02 for e in explanations)
    assert np.mean([patch_to_mean(e.heat) for e in explanations if e.heat is not None]) > 2


def test_explanation_of_an_image_changes_when_the_weights_are_random(trained: Trained) -> None:
    paths = [path for name in PATCH_COLORS for path in trained.pictures(name)]
    predictor = load_explained(trained("fast_cnn"))
    before = heats_of(predictor, paths, "red")
    randomize(predictor)
    after = heats_of(predictor, paths, "red")
    likeness = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(before, after, strict=True) if b.any()]
    assert np.mean(likeness) < 0.5


@pytest.mark.parametrize("model", TEXT_EPOCHS)
def test_largest_weight_is_on_the_word_that_decides_and_has_its_sign(trained: Trained, model: str) -> None:
    for text, word, answer in (("的了是好我你他天", "好", "1"), ("风云坏雨的了", "坏", "0")):
        explanation = explain(trained(model), text)[0]
        assert explanation.answer == answer
        assert explanation.tokens is not None
        assert "".join(token for token, _ in explanation.tokens) == text
        assert max(explanation.tokens, key=lambda pair: abs(pair[1])) == (word, 1.0)
        other = explain(trained(model), text, label="01".replace(answer, ""))[0]
        assert dict(other.tokens or ())[word] == pytest.approx(-1)


@pytest.mark.parametrize("model", TEXT_EPOCHS)
def test_weights_of_a_text_add_up_to_the_change_of_the_logit(trained: Trained, model: str) -> None:
    text = "的了是好我你他天人山水" * 4
    predictor = load_explained(trained(model))
    explanation = explain(trained(model), text)[0]
    assert explanation.tokens is not None
    assert explanation.largest is not None
    assert explanation.change is not None
    assert explanation.gap is not None
    total = sum(weight for _, weight in explanation.tokens) * explanation.largest
    assert total - explanation.change == pytest.approx(explanation.gap, abs=1e-6)
    assert abs(explanation.gap) <= 0.01 * max(abs(explanation.change), explanation.largest)
    module = predictor.engine.model  # type: ignore[attr-defined]
    ids = torch.tensor(predictor.recipe.encode([text]))  # type: ignore[union-attr]
    with torch.no_grad():
        told = module(ids)[0]
        embedding = module.embedding.weight
        embedding.copy_(embedding[:1].expand_as(embedding).clone())
        moved = told - module(ids)[0]
    target = predictor.classes.index(str(explanation.explained))
    assert explanation.change == pytest.approx(float(moved[target] - moved.mean()), abs=1e-5)


@pytest.mark.parametrize("model", TEXT_EPOCHS)
def test_explanation_of_a_text_changes_when_the_weights_are_random(trained: Trained, model: str) -> None:
    texts = [f"{'的了是我你'[:place]}好{'的了是我你'[place:]}" for place in range(6)]
    predictor = load_explained(trained(model))

    def share_led_by_the_word() -> float:
        found = [dict(e.tokens or ()) for e in stream_explanations(predictor, texts, label="1")]
        return float(np.mean([weights["好"] == 1 for weights in found]))

    assert share_led_by_the_word() == 1
    shares = []
    for seed in range(5):
        randomize(predictor, seed)
        shares.append(share_led_by_the_word())
    assert np.mean(shares) < 0.5


def test_padding_of_a_batch_is_no_part_of_an_explanation(trained: Trained) -> None:
    alone = explain(trained("bilstm"), "风云坏雨")[0]
    together = explain(trained("bilstm"), ["风云坏雨", "的了是好我你他天人山水"])[0]
    assert alone.tokens == together.tokens


def test_grad_cam_equals_hirescam_before_global_average_pooling() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    images = np.random.default_rng(0).normal(size=(3, 1, 12, 12)).astype(np.float32)
    averaged = attribute_images(model, images, [0, 1, 2], "gradcam")
    by_place = attribute_images(model, images, [0, 1, 2], "hirescam")
    assert averaged.method == "Grad-CAM at layer 0 (10 × 10)"
    assert averaged.heat == pytest.approx(by_place.heat, abs=1e-5)


def test_convolution_of_one_place_is_passed_over() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 5, 2), nn.ReLU(), nn.Conv2d(4, 4, 4), nn.Flatten(), nn.Linear(4, 2)).eval()
    image = np.random.default_rng(0).normal(size=(1, 1, 12, 12)).astype(np.float32)
    assert attribute_images(model, image, [0], "gradcam").method == "Grad-CAM at layer 0 (4 × 4)"
    assert attribute_images(model, image, [0]).method == "HiResCAM (Grad-CAM place by place) at layer 1 (4 × 4)"


def test_image_in_which_nothing_speaks_for_the_class_is_told_as_such(trained: Trained) -> None:
    predictor = load_explained(trained("fast_cnn"))
    with torch.no_grad():
        for parameter in predictor.engine.model.parameters():  # type: ignore[attr-defined]
            parameter.zero_()
    explanation = next(stream_explanations(predictor, trained.pictures("red", 1), label="red"))
    assert explanation.heat is not None
    assert not explanation.heat.any()
    assert explanation.note == "no place speaks for `red`: the heat is 0 everywhere"


def test_what_all_classes_share_does_not_show_in_an_explanation() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3)).eval()
    image = np.random.default_rng(0).normal(size=(1, 1, 12, 12)).astype(np.float32)
    before = attribute_images(model, image, [1]).heat
    with torch.no_grad():
        model[3].weight += torch.randn(1, 400)
    assert attribute_images(model, image, [1]).heat == pytest.approx(before, abs=1e-4)


def test_unreadable_input_has_an_error_and_harms_no_other(trained: Trained, tmp_path: Path) -> None:
    good = trained.pictures("green", 1)[0]
    found = explain(trained("fast_cnn"), [good, tmp_path / "none.jpg", 7, Image.open(good), good.read_bytes()])
    assert [e.error for e in found] == [None, "no such file", "is not an image but int", None, None]
    assert found[1] == Explanation(str(tmp_path / "none.jpg"), error="no such file")
    assert found[0].heat is not None
    for other in (found[3], found[4]):
        assert other.heat == pytest.approx(found[0].heat, abs=1e-4)
    assert explain(trained("ngrams"), ["", "好"])[0].error == "is empty"
    assert explain(trained("fast_cnn"), []) == []


def test_answer_and_confidence_are_those_of_predict(trained: Trained) -> None:
    path = trained.pictures("blue", 1)[0]
    explanation, answer = explain(trained("fast_cnn"), path)[0], danlu.load(trained("fast_cnn")).predict(path)[0]
    assert (explanation.input, explanation.answer) == (answer.input, answer.label)
    assert explanation.confidence == pytest.approx(answer.confidence)


def test_unknown_class_names_the_nearest(trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"the model has no class 'gren'; nearest: 'green'"):
        explain(trained("fast_cnn"), trained.pictures("red", 1), label="gren")


def test_method_that_does_not_fit_is_refused(trained: Trained) -> None:
    path = trained.pictures("red", 1)
    with pytest.raises(ConfigError, match=r"no method called 'gradcm'; nearest: 'gradcam'"):
        explain(trained("fast_cnn"), path, method="gradcm")
    with pytest.raises(ConfigError, match=r"gradcam needs a convolution whose output is larger than 1 × 1"):
        explain(trained("mlp"), path, method="gradcam")
    with pytest.raises(ConfigError, match=r"texts are explained in one way only, got the method 'gradcam'"):
        explain(trained("ngrams"), "好", method="gradcam")
    with pytest.raises(ModelError, match="this text model has no embedding layer"):
        attribute_text(nn.Linear(2, 2), [1, 2], 0)


def test_missing_captum_is_named_with_the_command_that_installs_it(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danlu.base.extras.find_spec", lambda name: None if name == "captum" else object())
    with pytest.raises(MachineError, match=r'an explanation needs `captum`, (.|\n)*pip install "danlu\[explain\]"'):
        explain(trained("ngrams"), "好")


def test_text_longer_than_the_model_reads_is_told(trained: Trained) -> None:
    explanation = explain(trained("ngrams"), "好的" * 400)[0]
    read = len(explanation.tokens or ())
    assert read < 800
    assert explanation.note == f"the model reads the first {read} of 800 tokens"


def test_tokens_stand_as_in_the_text_whatever_the_tokenizer_makes_of_them(trained: Trained) -> None:
    explanation = explain(trained("ngrams"), " 好\x00 Ａ½\ud800 \n😀")[0]
    assert [token for token, _ in explanation.tokens or ()] == ["好", " ", "Ａ", "½", "½", "½", "\ufffd", "\n", "😀"]


def test_overlay_is_at_least_128_pixels_and_bright_where_the_heat_is() -> None:
    pixels, heat = np.full((3, 16, 16), 128, np.uint8), np.zeros((16, 16), np.float32)
    heat[:4, -4:] = 1
    picture = np.asarray(Image.open(io.BytesIO(overlay(pixels, heat))))
    assert picture.shape == (128, 128, 3)
    assert picture[:16, -16:].mean() > 1.5 * picture[-64:].mean()
    wide = Image.open(io.BytesIO(overlay(np.zeros((1, 100, 300), np.uint8), np.zeros((100, 300), np.float32))))
    assert wide.size == (300, 100)


def test_lightness_of_the_colours_rises_all_the_way() -> None:
    light = colors_of(np.linspace(0, 1, 50)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()


def test_brightest_place_is_named_by_thirds() -> None:
    heat = np.zeros((9, 9))
    assert brightest_place(heat) == "nowhere"
    for row, column, told in ((0, 8, "top right"), (4, 4, "centre"), (4, 0, "middle left"), (8, 4, "bottom centre")):
        assert brightest_place(np.where(((column, row) == np.indices((9, 9)).T).all(2).T, 1.0, heat).T) == told


def test_gallery_is_explained_example_by_example(trained: Trained) -> None:
    for model, shown in (("fast_cnn", "picture"), ("ngrams", "tokens")):
        run = trained(model)
        danlu.evaluate(run)
        path = explain_gallery(run)
        found = json.loads(path.read_text(encoding="utf-8"))
        assert path == run.explanations_file
        assert found["format"] == 1
        assert set(found["examples"]) == {row["key"] for row in run.gallery()}
        assert all(shown in example for example in found["examples"].values())
    pictures = json.loads(trained("fast_cnn").explanations_file.read_text(encoding="utf-8"))["examples"]
    for example in pictures.values():
        head, data = example["picture"].split(",")
        assert head == "data:image/jpeg;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) <= 128
        assert len(data) < 8_000


def test_run_without_a_gallery_is_told_how_to_make_one(trained: Trained) -> None:
    run = trained("bilstm")
    run.gallery_file.unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"has no gallery to explain\n\nhint: `danlu evaluate .*` makes one"):
        explain_gallery(run)


def call(*words: object, color: bool = False) -> Result:
    return CliRunner().invoke(cli.command, [str(word) for word in words], color=color)


def test_command_writes_a_picture_for_each_image_and_none_over_another(trained: Trained, tmp_path: Path) -> None:
    twice = [trained.pictures("red", 1)[0], trained.pictures("red", 1)[0]]
    told = call(trained("fast_cnn"), *twice, trained.pictures("blue", 1)[0])
    assert told.exit_code == 0
    lines = [line.split("\t") for line in told.stdout.splitlines()]
    assert [Path(line[0]).name for line in lines] == ["000-red.png", "000-red-2.png", "000-blue.png"]
    assert lines[0][1].startswith("red ")
    assert lines[0][2] == "brightest at bottom right"
    assert all((tmp_path / line[0]).read_bytes().startswith(b"\x89PNG") for line in lines)
    assert Path(lines[0][0]).parent == Path("explanations")


def test_command_explains_another_class_and_names_it(trained: Trained, tmp_path: Path) -> None:
    told = call(trained("fast_cnn"), trained.pictures("red", 1)[0], "--class", "blue", "--out", tmp_path / "o")
    assert ", explained blue\t" in told.stdout
    assert (tmp_path / "o" / "000-blue.png").exists()


def test_command_tells_unreadable_inputs_on_stderr_and_ends_with_code_3(trained: Trained) -> None:
    told = call(trained("fast_cnn"), "none.jpg", trained.pictures("red", 1)[0])
    assert "error: none.jpg: no such file" in told.stderr
    assert len(told.stdout.splitlines()) == 1
    assert isinstance(told.exception, DataError)
    assert told.exception.exit_code == 3
    assert told.exception.message == "1 of 2 inputs could not be read"


def test_command_prints_tokens_in_columns_that_line_up(trained: Trained) -> None:
    told = call(trained("ngrams"), "a的了坏Ａ")
    rows = told.stdout.splitlines()[1:6]
    assert len({display_width(row[: row.index("│")]) for row in rows}) == 1
    assert rows[3].startswith("  坏  +1.00  ")
    assert rows[3].endswith("│██████████")
    assert told.stdout.startswith("0 ")


def test_tint_of_the_text_is_colour_only_on_top_of_the_numbers(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = call(trained("ngrams"), "的了坏")
    monkeypatch.setattr(cli, "_has_color", lambda: True)
    tinted = call(trained("ngrams"), "的了坏", color=True)
    assert "\x1b[" not in plain.stdout
    assert "\x1b[" in tinted.stdout
    kept = click.unstyle(tinted.stdout).splitlines()
    assert kept[1] == "  的了坏"
    assert kept[:1] + kept[2:] == plain.stdout.splitlines()


def test_command_answers_in_json_lines(trained: Trained) -> None:
    text = json.loads(call(trained("ngrams"), "的坏", "--json").stdout)
    assert text["explained"] == "0"
    assert text["tokens"][1] == ["坏", 1.0]
    image = json.loads(call(trained("fast_cnn"), trained.pictures("green", 1)[0], "--json").stdout)
    assert image["brightest"] == "bottom right"
    assert Path(image["picture"]).exists()
    assert json.loads(call(trained("fast_cnn"), "none.jpg", "--json").stdout) == {
        "input": "none.jpg",
        "error": "no such file",
    }


def test_command_without_input_and_gallery_with_input_are_refused(trained: Trained) -> None:
    nothing = call(trained("ngrams")).exception
    assert isinstance(nothing, ConfigError)
    assert str(nothing).startswith("no INPUT given")
    both = call(trained("ngrams"), "好", "--gallery").exception
    assert isinstance(both, ConfigError)
    assert both.message.startswith("`--gallery` explains the examples of the report")


def test_command_explains_the_gallery(trained: Trained) -> None:
    danlu.evaluate(trained("ngrams"))
    told = call(trained("ngrams"), "--gallery")
    assert told.stdout.strip() == str(trained("ngrams").explanations_file)


def test_folder_that_cannot_be_made_is_told(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    told = call(trained("fast_cnn"), trained.pictures("red", 1)[0], "--out", tmp_path / "taken")
    assert isinstance(told.exception, MachineError)
    assert told.exception.message == f"cannot make the folder `{tmp_path / 'taken'}`: File exists"


@pytest.mark.parametrize("name", ["T-shirt/top", "..", "a" * 300, "丹" * 200])
def test_class_of_any_name_makes_a_file_name(name: str, tmp_path: Path) -> None:
    explanation = Explanation(
        "x" * 200 + ".jpg",
        explained=name,
        heat=np.zeros((4, 4), np.float32),
        pixels=np.zeros((1, 4, 4), np.uint8),
    )
    path = cli._Pictures(tmp_path).write(explanation)
    assert path.parent == tmp_path
    assert path.exists()
