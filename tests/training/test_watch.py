"""Looking at a training from inside: what is seen, what it may cost, and that it changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danlu.base.errors import DataError, ModelError
from danlu.training import trainer as module
from danlu.training import watch as watching
from danlu.training.keeper import Hooks
from danlu.training.trainer import BadInputs, Trainer

Pairs = list[tuple[Tensor, Tensor]]


def batches(count: int = 4, size: int = 16) -> Pairs:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 6, generator=generator), torch.arange(size) % 3) for _ in range(count)]


def network(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3), *more)


def watched(
    model: nn.Module, pairs: Pairs, folder: Path, *, loss: Any = None, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(rows of the steps looked at, what the first step told) of a training."""
    rows: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    hooks = Hooks(on_watched=rows.extend, on_first_step=first.update)
    wanted = {"epochs": 2, "schedule": "constant", **settings}
    Trainer(model, pairs, pairs[:1], loss or "cross_entropy", settings=wanted).fit(folder, hooks=hooks)
    return rows, first


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if looking cost nothing, at every step."""
    monkeypatch.setattr(watching, "SHARE", math.inf)
    monkeypatch.setattr(watching, "AN_EPOCH", 10**6)


def test_looking_changes_no_bit_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_step: None
) -> None:
    results = []
    for name, kind in (("with", watching.Watch), ("without", lambda *_, **__: None)):
        monkeypatch.setattr(module, "Watch", kind)
        model = network()
        watched(model, batches(), tmp_path / name, ema=0.9, clip_norm=0.5)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_row_has_the_norms_of_a_step_done_by_hand(tmp_path: Path, every_step: None) -> None:
    pairs, model = batches(1), nn.Sequential(nn.Linear(6, 3))
    weight, bias = (parameter.detach().clone() for parameter in model.parameters())
    loss = nn.functional.cross_entropy(model(pairs[0][0]), pairs[0][1])
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    rows, _ = watched(model, pairs, tmp_path, epochs=1, optimizer="sgd", momentum=0, learning_rate=0.1, weight_decay=0)
    layer = rows[0]["layers"][0]
    norm = math.sqrt(sum(float(gradient.norm()) ** 2 for gradient in gradients))
    size = math.sqrt(float(weight.norm()) ** 2 + float(bias.norm()) ** 2)
    assert layer["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    assert layer["weight_norm"] == pytest.approx(size, rel=1e-3)
    assert layer["update_ratio"] == pytest.approx(0.1 * norm / size, rel=1e-3)
    assert rows[0]["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    assert rows[0]["loss"] == pytest.approx(loss.item(), rel=1e-3)


def test_gradient_norm_is_that_before_clipping(tmp_path: Path, every_step: None) -> None:
    rows, _ = watched(network(), batches(), tmp_path, clip_norm=1e-6)
    assert min(row["gradient_norm"] for row in rows) > 1e-3


def test_norm_of_every_step_is_told_where_gradients_are_clipped(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = []
    settings = {"epochs": 2, "clip_norm": 1.0}
    Trainer(network(), batches(), batches(), settings=settings).fit(tmp_path, hooks=Hooks(on_steps=steps.extend))
    assert len(steps) == 8
    assert all(row["gradient_norm"] > 0 for row in steps)


def test_dead_units_are_counted(tmp_path: Path, every_step: None) -> None:
    model = network()
    with torch.no_grad():
        model[0].bias[:6] = -100.0
    rows, _ = watched(model, batches(), tmp_path)
    by_name = {layer["name"]: layer for layer in rows[0]["layers"]}
    assert by_name["1"]["dead_share"] == pytest.approx(6 / 8)
    assert by_name["1"]["gradient_norm"] is None
    assert [layer["kind"] for layer in rows[0]["layers"]] == ["Linear", "ReLU", "Linear"]


def test_first_step_is_always_looked_at_and_others_only_as_time_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SHARE", 0.0)
    rows, first = watched(network(), batches(), tmp_path)
    assert [row["step"] for row in rows] == [0]
    assert first["inputs"]["examples"] == 16


def test_at_most_four_steps_of_an_epoch_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SHARE", math.inf)
    rows, _ = watched(network(), batches(40), tmp_path)
    assert [sum(row["epoch"] == epoch for row in rows) for epoch in (0, 1)] == [4, 4]


def test_time_of_a_step_goes_to_its_phases(tmp_path: Path, every_step: None) -> None:
    rows, _ = watched(network(), batches(), tmp_path)
    assert set(rows[0]["milliseconds"]) == {"loading", "forward", "backward", "update"}
    assert all(value >= 0 for row in rows for value in row["milliseconds"].values())
    assert rows[0]["milliseconds"]["backward"] > 0


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.cut = nn.Linear(6, 6), nn.Linear(6, 6)
        self.unused = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)
        self.body.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.head(self.cut(self.body(inputs)).detach())
        return scores


def test_first_step_names_the_parameters_that_cannot_learn(tmp_path: Path) -> None:
    _, first = watched(Frozen(), batches(), tmp_path)
    told = first["parameters"]
    assert told["frozen"]["names"] == ["body.weight", "body.bias"]
    assert told["without_gradient"]["names"] == ["cut.weight", "cut.bias", "unused.weight", "unused.bias"]
    assert told["total"] == 3 * 42 + 21


def test_first_step_names_parameters_the_optimizer_does_not_know(tmp_path: Path) -> None:
    model, first = network(), {}
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.1)
    hooks = Hooks(on_first_step=first.update)
    Trainer(model, batches(), batches(), optimizer=optimizer, settings={"epochs": 1}).fit(tmp_path, hooks=hooks)
    assert first["parameters"]["not_in_optimizer"]["names"] == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    ("more", "are_probabilities"), [((), False), ((nn.Softmax(1),), True), ((nn.LogSoftmax(1),), False)]
)
def test_first_step_knows_scores_that_are_probabilities(
    tmp_path: Path, more: tuple[nn.Module, ...], are_probabilities: bool
) -> None:
    _, first = watched(network(*more), batches(), tmp_path)
    assert first["scores"]["are_probabilities"] is are_probabilities
    assert first["scores"]["is_cross_entropy"] is True


def test_first_step_knows_a_loss_that_is_no_cross_entropy(tmp_path: Path) -> None:
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.nll_loss(scores.clamp(min=1e-9).log(), labels)

    _, first = watched(network(nn.Softmax(1)), batches(), tmp_path, loss=loss)
    assert first["scores"]["is_cross_entropy"] is False


def test_first_step_names_layers_that_stay_in_eval_mode(tmp_path: Path) -> None:
    class Resting(nn.Sequential):
        def train(self, mode: bool = True) -> Resting:
            super().train(False)
            return self

    _, first = watched(Resting(*network()), batches(), tmp_path)
    assert first["resting"] == {"of": 1, "count": 1, "names": ["2 (Dropout)"]}


def test_first_step_tells_the_range_of_the_inputs(tmp_path: Path) -> None:
    pairs = [(torch.full((8, 6), 3.0), torch.arange(8) % 3)]
    _, first = watched(network(), pairs, tmp_path)
    told = first["inputs"]
    assert (told["mean"], told["std"], told["alike"], told["varying"]) == (3.0, 0.0, 8, 0.0)


def test_outputs_that_are_no_scores_of_classes_are_looked_at_too(tmp_path: Path) -> None:
    pairs = [(torch.randn(8, 6), torch.randn(8, 3))]
    rows, first = watched(network(), pairs, tmp_path, loss=nn.MSELoss())
    assert rows[0]["labels"] is None
    assert first["labels"] == {"kind": "numbers"}
    assert first["scores"]["loss"] > 0


def poisoned(place: int) -> Callable[[], Pairs]:
    def make() -> Pairs:
        pairs = batches()
        pairs[place][0][5, 2] = math.nan
        return pairs

    return make


@pytest.mark.parametrize("accumulation", [1, 2])
def test_loss_that_is_nan_for_a_nan_in_the_inputs_names_the_batch(tmp_path: Path, accumulation: int) -> None:
    settings = {"epochs": 2, "accumulation_steps": accumulation}
    with pytest.raises(DataError, match=r"batch 3 of epoch 1 holds NaN .* in 1 of its 16 examples") as caught:
        Trainer(network(), poisoned(2)(), batches(), settings=settings).fit(tmp_path)
    assert isinstance(caught.value, BadInputs)
    assert caught.value.facts == {"bad_examples": 1, "examples": 16, "epoch": 0, "batch": 2}


def test_loss_that_explodes_is_not_laid_to_the_inputs(tmp_path: Path) -> None:
    settings = {"epochs": 2, "learning_rate": 1e30, "optimizer": "sgd"}
    with pytest.raises(ModelError, match="the training loss became"):
        Trainer(network(), batches(), batches(), settings=settings).fit(tmp_path)


def test_rows_up_to_a_failure_are_told(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    hooks = Hooks(on_steps=steps.extend, on_watched=rows.extend)
    with pytest.raises(DataError):
        Trainer(network(), poisoned(1)(), batches(), settings={"epochs": 2}).fit(tmp_path, hooks=hooks)
    assert steps[0]["loss"] > 0
    assert steps[1]["loss"] is None
    assert rows[0]["step"] == 0


def test_first_step_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched(network(nn.Softmax(1)), batches(), tmp_path)
    lines = capsys.readouterr().err.splitlines()
    told = next(place for place, line in enumerate(lines) if "first step, softmax_before_loss" in line)
    assert told < next(place for place, line in enumerate(lines) if line.startswith("epoch 1/2"))


def test_label_without_a_score_is_an_error_of_the_data(tmp_path: Path) -> None:
    pairs = [(torch.randn(8, 6), torch.arange(8))]
    with pytest.raises(DataError, match="labels of a batch go from 0 to 7, which the scores of the module do not fit"):
        Trainer(network(), pairs, pairs, settings={"epochs": 1}).fit(tmp_path)
