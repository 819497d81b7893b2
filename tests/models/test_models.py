"""One suite for every registered architecture: a new one is tested by adding its line to MODELS."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from danlu.base.errors import ConfigError
from danlu.models import MODELS
from danlu.models.build import build_model, initialize
from danlu.models.shapes import ExampleShape, ImageShape, TextShape
from danlu.models.summary import summarize

CLASSES = 3
IMAGES = [ImageShape(1, 28, 28), ImageShape(3, 32, 32), ImageShape(1, 8, 8), ImageShape(3, 40, 24)]
TEXTS = [TextShape(50, 20), TextShape(7, 3)]
CASES = [(name, shape) for name, member in MODELS for shape in (IMAGES if "images" in member.kinds else TEXTS)]


def examples(shape: ExampleShape, count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % CLASSES
    if isinstance(shape, ImageShape):
        return torch.randn(count, *shape, generator=generator), labels
    tokens = torch.randint(2, shape.vocabulary_size, (count, shape.max_length), generator=generator)
    lengths = torch.randint(1, shape.max_length + 1, (count,), generator=generator)
    lengths[0] = shape.max_length
    return tokens * (torch.arange(shape.max_length) < lengths[:, None]), labels


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_scores_have_one_column_a_class(name: str, shape: ExampleShape) -> None:
    inputs, _ = examples(shape)
    model = build_model(name, shape, CLASSES).eval()
    assert model(inputs).shape == (8, CLASSES)
    assert model(inputs[:1]).shape == (1, CLASSES)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_parameter_gets_a_gradient_and_moves(name: str, shape: ExampleShape) -> None:
    torch.manual_seed(0)
    inputs, labels = examples(shape)
    model = build_model(name, shape, CLASSES)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):  # dropout may hide a unit once, not always
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert not torch.equal(value, before[key]), key


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_evaluation_is_deterministic_and_does_not_depend_on_the_batch(name: str, shape: ExampleShape) -> None:
    inputs, _ = examples(shape)
    model = build_model(name, shape, CLASSES).eval()
    with torch.inference_mode():
        together = model(inputs)
        assert torch.equal(together, model(inputs))
        for index in range(len(inputs)):
            torch.testing.assert_close(model(inputs[index : index + 1])[0], together[index], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [case for case in CASES if isinstance(case[1], TextShape)])
def test_padding_does_not_change_the_scores_of_a_text(name: str, shape: TextShape) -> None:
    inputs, _ = examples(shape)
    model = build_model(name, shape, CLASSES).eval()
    longer = torch.cat([inputs, torch.zeros(len(inputs), 5, dtype=torch.int64)], 1)
    with torch.inference_mode():
        torch.testing.assert_close(model(longer), model(inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "shape"), [case for case in CASES if case[1] in (IMAGES[0], TEXTS[0])])
def test_eight_examples_can_be_learnt_by_heart(name: str, shape: ExampleShape) -> None:
    torch.manual_seed(0)
    inputs, labels = examples(shape)
    model = build_model(name, shape, CLASSES)
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    if hasattr(model, "gram_dropout"):
        model.gram_dropout = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.05
    assert (model.eval()(inputs).argmax(1) == labels).all()


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_saved_weights_give_the_same_scores_when_loaded(name: str, shape: ExampleShape, tmp_path: Path) -> None:
    inputs, _ = examples(shape)
    model = build_model(name, shape, CLASSES, seed=1).eval()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    other = build_model(name, shape, CLASSES, seed=2).eval()
    assert not torch.equal(model(inputs), other(inputs))
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(model(inputs), other(inputs))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone(name: str, shape: ExampleShape) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two = (build_model(name, shape, CLASSES, seed=3).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("name", "options", "shape", "parameters"),
    [
        ("mlp", {}, ImageShape(1, 28, 28), 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10),
        ("mlp", {"widths": [128]}, ImageShape(1, 28, 28), 784 * 128 + 128 + 128 * 10 + 10),
        ("mlp", {"widths": [512, 256]}, ImageShape(1, 28, 28), 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10),
        ("digit_cnn", {}, ImageShape(1, 28, 28), 1_199_882),  # PyTorch's MNIST example
        ("simple_cnn", {}, ImageShape(3, 32, 32), 448 + 4_640 + 18_496 + 1024 * 512 + 512 + 512 * 10 + 10),
    ],
)  # fmt: skip
def test_architecture_has_the_parameters_of_its_description(
    name: str, options: dict[str, object], shape: ImageShape, parameters: int
) -> None:
    assert summarize(build_model(name, shape, 10, options), shape).parameters == parameters


def test_batch_norm_and_dropout_of_the_mlp_are_options() -> None:
    model = build_model("mlp", ImageShape(1, 4, 4), 2, {"widths": [8, 4], "batch_norm": True, "dropout": 0.5})
    kinds = [type(layer).__name__ for layer in model]
    assert kinds.count("BatchNorm1d") == 2
    assert kinds.count("Dropout") == 2


@pytest.mark.parametrize(
    ("activation", "kind"), [("relu", nn.ReLU), ("gelu", nn.GELU), ("tanh", nn.Tanh), ("sigmoid", nn.Sigmoid)]
)
def test_activation_of_the_mlp_stands_after_every_hidden_layer(activation: str, kind: type[nn.Module]) -> None:
    model = build_model("mlp", ImageShape(1, 4, 4), 2, {"widths": [8, 4], "activation": activation})
    assert [type(layer) for layer in model][2::3] == [kind, kind]


def test_activation_of_the_mlp_does_not_change_the_names_of_its_weights() -> None:
    plain, other = (
        build_model("mlp", ImageShape(1, 4, 4), 2, options).state_dict() for options in ({}, {"activation": "gelu"})
    )
    assert list(plain) == list(other) == [f"{layer}.{kind}" for layer in (1, 4, 7) for kind in ("weight", "bias")]


def test_unknown_activation_of_the_mlp_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"model\.activation +input should be 'relu', 'gelu', 'tanh' or 'sigmoid'"):
        build_model("mlp", IMAGES[0], 2, {"activation": "swish"})


def test_bilstm_equals_pytorchs_bidirectional_lstm_on_packed_texts() -> None:
    shape = TextShape(30, 12)
    inputs, _ = examples(shape)
    model = build_model("bilstm", shape, CLASSES).eval()
    reference = nn.LSTM(64, 128, 2, batch_first=True, bidirectional=True)
    state = {}
    for direction, suffix in (("forward_layers", ""), ("backward_layers", "_reverse")):
        for layer in range(2):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                state[f"{kind}_l{layer}{suffix}"] = model.state_dict()[f"{direction}.{layer}.{kind}_l0"]
    reference.load_state_dict(state)
    lengths = (inputs != 0).sum(1)
    packed = nn.utils.rnn.pack_padded_sequence(model.embedding(inputs), lengths, batch_first=True, enforce_sorted=False)
    with torch.inference_mode():
        _, (hidden, _) = reference(packed)
        torch.testing.assert_close(
            model(inputs), model.head(torch.cat([hidden[-2], hidden[-1]], 1)), rtol=1e-5, atol=1e-6
        )


def test_ngram_rows_are_equal_for_equal_grams_and_0_at_the_padding() -> None:
    model = build_model("ngrams", TextShape(10, 6), 2)
    grams = model.grams(torch.tensor([[2, 3, 2, 3, 0, 0]]))
    singles, pairs, triples = grams[0, :6], grams[0, 6:11], grams[0, 11:]
    assert singles.tolist() == [2, 3, 2, 3, 0, 0]
    assert pairs[0] == pairs[2] != pairs[1]
    assert pairs[3:].tolist() == [0, 0]
    assert (triples[2:] == 0).all()
    assert grams.max() < model.embedding.num_embeddings


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.dropuot +unknown option of mlp; nearest: 'dropout'"):
        build_model("mlp", IMAGES[0], 2, {"dropuot": 0.1})


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match="2 problems") as caught:
        build_model("mlp", IMAGES[0], 2, {"dropout": 2, "widths": "wide"})
    assert "model.dropout" in str(caught.value)
    assert "model.widths" in str(caught.value)


def test_model_of_the_wrong_kind_names_fitting_ones() -> None:
    with pytest.raises(ConfigError, match=r"`bilstm` does not read images[\s\S]*models for images: mlp"):
        build_model("bilstm", IMAGES[0], 2)


def test_too_small_images_name_the_size_and_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"vgg_cnn needs images of at least 8 × 8 pixels, these have 4 × 4"):
        build_model("vgg_cnn", ImageShape(1, 4, 4), 2)


@pytest.mark.parametrize("scheme", ["kaiming", "xavier", "orthogonal", "pytorch"])
def test_initialization_keeps_the_first_loss_near_that_of_guessing(scheme: str) -> None:
    inputs, labels = examples(IMAGES[0], 64)
    model = build_model("mlp", IMAGES[0], CLASSES, initialization=scheme).eval()
    loss = nn.functional.cross_entropy(model(inputs), labels)
    assert abs(loss.item() - torch.tensor(float(CLASSES)).log().item()) < 0.5


def test_kaiming_keeps_the_scale_of_activations_through_relu_layers() -> None:
    layers = [layer for _ in range(6) for layer in (nn.Linear(512, 512), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(512, 2))
    torch.manual_seed(0)
    initialize(model, "kaiming")
    out = model[:-1](torch.randn(256, 512))
    assert 0.5 < (out**2).mean().item() < 2


def test_summary_counts_multiply_adds() -> None:
    summary = summarize(build_model("simple_cnn", ImageShape(3, 32, 32), 10), ImageShape(3, 32, 32))
    convolutions = 27 * 16 * 32 * 32 + 16 * 9 * 32 * 16 * 16 + 32 * 9 * 64 * 8 * 8
    assert summary.macs == convolutions + 1024 * 512 + 512 * 10
    assert "Conv2d" in str(summary)
    assert "16 × 32 × 32" in str(summary)
