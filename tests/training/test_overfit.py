"""One small batch, learnt by heart by what works and by nothing that is broken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from danlu.base.errors import DataError, ModelError
from danlu.data.batches import as_batches
from danlu.models import MODELS
from danlu.models.build import build_model
from danlu.models.shapes import ImageShape, TextShape
from danlu.training.losses import Loss
from danlu.training.overfit import Overfit, choose_examples, overfit_one_batch, without_dropout

CROSS_ENTROPY = Loss(nn.functional.cross_entropy)


def batch(rows: int = 64, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 6, generator=generator), torch.arange(rows) % classes


def net(*, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 4))


def learn(model: nn.Module, loss: Loss = CROSS_ENTROPY, **options: float) -> Overfit:
    return overfit_one_batch(model, as_batches([batch()]), loss, **options)  # type: ignore[arg-type]


def test_good_model_learns_a_batch_by_heart() -> None:
    found = learn(net())
    assert found.reached
    assert (found.examples, found.classes) == (32, 4)
    assert found.accuracies[-1] == 1.0
    assert found.losses[-1] <= 0.1 * found.losses[0]
    assert found.steps == len(found.losses) - 1


def test_dropout_of_a_half_does_not_stand_in_the_way() -> None:
    assert learn(net(dropout=0.9)).reached


class Detached(nn.Module):
    """A head whose features get no gradient, since somebody left a `detach` in."""

    def __init__(self, *, all_of_it: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(6, 2)
        self.head = nn.Linear(2, 4)
        self.all_of_it = all_of_it

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x).relu().detach())
        return scores.detach() if self.all_of_it else scores


def test_detached_body_cannot_learn_a_batch() -> None:
    found = learn(Detached(all_of_it=False), steps=100)
    assert not found.reached
    assert not found.ran_out
    assert found.stop_reason == "100 steps done"


def test_detached_scores_are_told_at_once() -> None:
    found = learn(Detached(all_of_it=True))
    assert (found.reached, found.steps, found.stop_reason) == (False, 0, "no parameter gets a gradient")


class Zero(nn.Module):
    """Scores that no weight changes: a ReLU that is dead for every input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        nn.init.constant_(self.layer.bias, -100.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()


def test_zero_gradient_cannot_learn_a_batch() -> None:
    found = learn(Zero(), steps=20)
    assert not found.reached
    assert len(set(found.losses)) == 1


def test_loss_that_is_no_number_is_told() -> None:
    found = learn(net(), Loss(lambda scores, labels: scores.sum() * float("nan")))
    assert not found.reached
    assert found.stop_reason == "the loss is no longer a number"
    assert found.to_json()["losses"] == [None]


def test_label_smoothing_of_a_module_is_left_out_and_stays_set() -> None:
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.4)
    assert learn(net(), Loss(smoothed)).reached
    assert smoothed.label_smoothing == 0.4


def test_time_is_kept_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def later() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr("danlu.training.overfit.time.perf_counter", later)
    found = learn(net(), seconds=4)
    assert found.ran_out
    assert found.stop_reason == "the time for it is over"
    assert found.steps <= 4


def test_module_and_generators_are_what_they_were() -> None:
    model = net(dropout=0.5)
    model.train()
    weights = [parameter.clone() for parameter in model.parameters()]
    state = torch.get_rng_state()
    learn(model)
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))
    assert model[2].p == 0.5  # type: ignore[index]
    assert torch.equal(state, torch.get_rng_state())


def test_equal_seeds_give_equal_losses() -> None:
    assert learn(net()).losses == learn(net()).losses


def test_module_that_cannot_be_copied_is_told() -> None:
    model = net()
    model.kept = (value for value in ())  # type: ignore[assignment]
    with pytest.raises(ModelError, match="Sequential cannot be copied"):
        learn(model)


def test_examples_come_from_a_batch_with_two_classes() -> None:
    x = torch.arange(24.0).reshape(8, 3)
    sorted_ = [(x, torch.zeros(8, dtype=torch.int64))] * 3 + [(x, torch.arange(8) % 2)]
    _, labels = choose_examples(as_batches(sorted_), 4)
    assert labels.tolist() == [0, 1, 0, 1]


def test_every_class_of_the_batch_is_among_few_examples() -> None:
    x, y = torch.arange(90.0).reshape(30, 3), torch.tensor([0] * 27 + [1, 2, 3])
    _, labels = choose_examples(as_batches([(x, y)]), 8)
    assert sorted(set(labels.tolist())) == [0, 1, 2, 3]
    assert len(labels) == 8


def test_equal_inputs_with_other_labels_are_left_out() -> None:
    x = torch.ones(6, 3)
    inputs, labels = choose_examples(as_batches([({"x": x}, torch.arange(6) % 2)]), 6)
    assert (len(inputs["x"]), labels.tolist()) == (1, [0])


def test_no_batch_is_an_error() -> None:
    with pytest.raises(DataError, match="the training batches are empty"):
        choose_examples(as_batches([]), 4)


def test_dropout_of_layers_of_every_kind_is_off() -> None:
    model = nn.ModuleDict(
        {
            "plain": nn.Dropout2d(0.3),
            "lstm": nn.LSTM(4, 4, num_layers=2, dropout=0.3),
            "attention": nn.MultiheadAttention(4, 2, dropout=0.3),
            "grams": build_model("ngrams", TextShape(50, 10), 2),
        }
    )
    without_dropout(model)
    left = [
        (name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if ("dropout" in name or name == "p") and isinstance(value, float)
    ]
    assert left
    assert all(value == 0.0 for _, value in left)


def test_regression_is_learnt_by_its_loss_alone() -> None:
    x, _ = batch()
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 1))
    found = overfit_one_batch(model, as_batches([(x, x[:, :1] * 2)]), Loss(nn.functional.mse_loss))
    assert found.reached
    assert (found.classes, found.accuracies) == (0, ())


@pytest.mark.parametrize("name", MODELS.names())
def test_every_registered_model_learns_a_batch_by_heart(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    inputs: Tensor
    if "images" in MODELS.members[name].kinds:
        model = build_model(name, ImageShape(1, 16, 16), 3)
        inputs = torch.randn(24, 1, 16, 16, generator=generator)
    else:
        model = build_model(name, TextShape(60, 12), 3)
        inputs = torch.randint(1, 60, (24, 12), generator=generator)
    assert overfit_one_batch(model, as_batches([(inputs, labels)]), CROSS_ENTROPY, seconds=60).reached
