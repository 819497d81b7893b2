"""Losses, optimizers, schedules, stopping and the running mean: one suite a registry, then what is special."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danlu.base.config import read_config
from danlu.base.settings import TrainingSettings
from danlu.models.build import build_model
from danlu.models.shapes import ImageShape
from danlu.training import LOSSES, OPTIMIZERS, SCHEDULES
from danlu.training.checkpoints import optimizer_tensors, restore_optimizer
from danlu.training.ema import RunningMean
from danlu.training.losses import balanced_weights, build_loss
from danlu.training.muon import Muon, orthogonalize
from danlu.training.optimizers import Together, build_optimizer
from danlu.training.recorder import EpochRow, Recorder
from danlu.training.schedules import build_schedule
from danlu.training.step import Stepped
from danlu.training.stopping import Stopping


def settings(**values: Any) -> TrainingSettings:
    plain = {"epochs": 4, "learning_rate": 0.01, "weight_decay": 0.0, "warmup": 0.1, "clip_norm": None}
    plain |= {"label_smoothing": 0.0, "optimizer": "adamw", "schedule": "constant", "batch_size": 8}
    return read_config(settings={"training": plain | values}).settings.training


def row(epoch: int, loss: float, accuracy: float) -> EpochRow:
    return EpochRow(epoch, epoch, 0.0, 0.0, loss, accuracy, 0.0, 0.0, 0.0)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(24, 6, generator=generator)
    return inputs, inputs[:, :3].argmax(1)


@pytest.mark.parametrize("name", LOSSES.names())
def test_loss_is_smaller_for_the_right_answer(name: str) -> None:
    loss = build_loss(settings(loss=name))
    labels = torch.tensor([0, 1])
    right, wrong = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 4.0], [4.0, 0.0]])
    assert 0 <= loss(right, labels) < loss(wrong, labels)


@pytest.mark.parametrize("name", LOSSES.names())
def test_loss_weighs_classes_as_examples_repeated(name: str) -> None:
    scores = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    weighted = build_loss(settings(loss=name), torch.tensor([1.0, 2.0]))(scores, torch.tensor([0, 0, 1]))
    repeated = build_loss(settings(loss=name))(scores[[0, 1, 2, 2]], torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(weighted, repeated)


def test_focal_loss_with_gamma_0_is_cross_entropy() -> None:
    inputs, labels = torch.randn(9, 3), torch.arange(9) % 3
    focal = build_loss(settings(loss="focal", focal_gamma=0))(inputs, labels)
    torch.testing.assert_close(focal, nn.functional.cross_entropy(inputs, labels))


def test_balanced_weights_make_classes_count_alike() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = balanced_weights(labels, 3)
    assert (weights * torch.bincount(labels)).tolist() == pytest.approx([10 / 3] * 3)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_optimizer_lowers_the_loss(name: str) -> None:
    inputs, labels = batch()
    model = small_net()
    optimizer = build_optimizer(model, settings(optimizer=name, learning_rate={"sgd": 0.1}.get(name, 0.01)))
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_optimizer_goes_on_bit_for_bit_after_its_state_was_saved(name: str) -> None:
    inputs, labels = batch()

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    whole = small_net()
    steps(whole, build_optimizer(whole, settings(optimizer=name, weight_decay=0.1)), 6)
    first = small_net()
    optimizer = build_optimizer(first, settings(optimizer=name, weight_decay=0.1))
    steps(first, optimizer, 3)
    tensors, values = optimizer_tensors(optimizer)
    second = small_net()
    second.load_state_dict(first.state_dict())
    again = build_optimizer(second, settings(optimizer=name, weight_decay=0.1))
    restore_optimizer(again, {key: value.clone() for key, value in tensors.items()}, values)
    steps(second, again, 3)
    for one, two in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


def test_biases_are_not_decayed() -> None:
    groups = build_optimizer(small_net(), settings(weight_decay=0.1)).param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.1, {2}), (0.0, {1})]


def test_muon_takes_hidden_matrices_and_adamw_the_rest() -> None:
    groups = build_optimizer(small_net(), settings(optimizer="muon")).param_groups
    assert [len(group["params"]) for group in groups] == [2, 4]
    assert groups[1]["lr"] == pytest.approx(0.1 * groups[0]["lr"])


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_schedule_is_finite_and_between_0_and_1(name: str, total: int) -> None:
    schedule = build_schedule(settings(schedule=name), total, 1)
    factors = [schedule(step) for step in range(total)]
    assert all(math.isfinite(f) and 0 <= f <= 1 for f in factors)
    assert factors == [schedule(step) for step in range(total)]


@pytest.mark.parametrize(
    ("name", "start", "highest_at", "end"),
    [("constant", 1, 0, 1), ("cosine", 1, 0, 0), ("one_cycle", 0.04, 10, 0), ("warmup_cosine", 1 / 11, 10, 0)],
)
def test_schedule_starts_peaks_and_ends_where_it_should(name: str, start: float, highest_at: int, end: float) -> None:
    schedule = build_schedule(settings(schedule=name), 100, 10)
    factors = [schedule(step) for step in range(100)]
    assert factors[0] == pytest.approx(start, abs=1e-3)
    assert abs(factors.index(max(factors)) - highest_at) <= 1
    assert max(factors) == pytest.approx(1, abs=1e-3)
    assert factors[-1] == pytest.approx(end, abs=0.002)


def test_step_schedule_drops_by_its_factor_after_its_epochs() -> None:
    schedule = build_schedule(settings(schedule="step", step_epochs=2, step_factor=0.1), 60, 10)
    assert [round(schedule(step), 6) for step in (0, 19, 20, 40)] == [1, 1, 0.1, 0.01]


def test_plateau_drops_after_its_patience_and_its_state_can_be_saved() -> None:
    schedule = build_schedule(settings(schedule="plateau", plateau_patience=2), 100, 10)
    for loss in (1.0, 0.9, 0.9, 0.95):
        schedule.observe(loss)
    assert schedule(0) == 1
    again = build_schedule(settings(schedule="plateau", plateau_patience=2), 100, 10)
    again.load_state(schedule.state())
    again.observe(0.91)
    assert again(0) == 0.5


def test_stopping_waits_for_its_patience_and_says_why() -> None:
    stopping = Stopping(settings(patience=2, best_by="validation_loss"))
    assert [stopping.is_best(row(i, loss, 0.5)) for i, loss in enumerate([1.0, 0.5, 0.6])] == [True, True, False]
    assert stopping.reason() is None
    stopping.is_best(row(3, 0.7, 0.9))
    assert stopping.reason() == "no better validation loss for 2 epochs (best at epoch 2)"


def test_equal_accuracy_is_decided_by_the_lower_loss() -> None:
    stopping = Stopping(settings(best_by="validation_accuracy"))
    assert stopping.is_best(row(0, 0.5, 0.9))
    assert not stopping.is_best(row(1, 0.6, 0.9))
    assert stopping.is_best(row(2, 0.4, 0.9))


def test_nan_validation_loss_is_never_best() -> None:
    stopping = Stopping(settings(best_by="validation_loss"))
    assert stopping.is_best(row(0, 5.0, 0.1))
    assert not stopping.is_best(row(1, math.nan, 0.9))


def test_running_mean_follows_its_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    mean = RunningMean(model, 0.5)
    nn.init.ones_(model.weight)
    mean.update()  # decay 2/11 in the first step
    assert mean.mean["weight"].item() == pytest.approx(9 / 11)
    for _ in range(200):
        mean.update()
    assert mean.mean["weight"].item() == pytest.approx(1)


def test_optimizer_state_takes_the_memory_layout_of_its_parameter() -> None:
    """A contiguous state beside a channels-last weight gave wrong updates in the fused kernel, without a word."""

    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).to(memory_format=torch.channels_last)

    model = net()
    optimizer = build_optimizer(model, settings())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    tensors, values = optimizer_tensors(optimizer)
    other = build_optimizer(net(), settings())
    restore_optimizer(other, {key: value.contiguous() for key, value in tensors.items()}, values)
    for parameter, state in other.state.items():
        if parameter.ndim == 4:
            assert state["exp_avg"].stride() == parameter.stride()


def stepped(count: int, loss: float | None = None) -> Stepped:
    """A step whose answers are right when it has 40 examples."""
    scores = torch.zeros(count, 2)
    scores[:, 1] = 1
    labels = torch.full((count,), 1 if count == 40 else 0)
    return Stepped(torch.tensor(float(count) if loss is None else loss), [(scores, labels)], count)


def test_recorder_weighs_steps_by_their_examples() -> None:
    recorder = Recorder(1, 3)
    for count in (40, 1, 3) * 20:
        recorder.add_step(stepped(count), 0.1)
    recorder.read()
    loss, accuracy = recorder.train_means()
    assert loss == pytest.approx((40 * 40 + 1 + 9) / 44)
    assert accuracy == pytest.approx(40 / 44)


def test_when_the_recorder_is_read_changes_no_bit_and_no_row() -> None:
    means, rows = [], []
    for read_at in ([], [1], [5, 6, 31, 32, 33, 40]):
        recorder, told = Recorder(1, 50), []
        for step in range(50):
            recorder.add_step(stepped(40 if step % 3 else 7, 0.1 + step / 7), 0.1 / (step + 1))
            if step in read_at:
                recorder.read()
                told += recorder.new_rows(step + 1)
                again = Recorder(1, 50)
                again.open_epoch(0, json.loads(json.dumps(recorder.state())))
                recorder = again
        recorder.read()
        told += recorder.new_rows(50)
        means.append(recorder.train_means())
        rows.append(told)
    assert means[0] == means[1] == means[2]
    assert rows[0] == rows[1] == rows[2]
    assert [row["step"] for row in rows[0]] == list(range(50))


def test_recorder_names_the_first_loss_that_is_no_number() -> None:
    recorder = Recorder(1, 9)
    for loss in (1.0, math.inf, math.nan):
        recorder.add_step(stepped(2, loss), 0.1)
    recorder.read()
    assert recorder.bad_step == 1


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 2, 3, 3)])
def test_muon_steps_in_all_directions_of_a_matrix_alike(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    update = orthogonalize(torch.randn(shape).reshape(shape[0], -1))
    values = torch.linalg.svdvals(update)
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.3


def test_muon_takes_hidden_matrices_and_kernels_and_renormalises_those_before_batch_norm() -> None:
    model = build_model("fast_cnn", ImageShape(1, 28, 28), 10)
    optimizer = build_optimizer(model, settings(optimizer="muon", learning_rate=0.07, weight_decay=0))
    assert isinstance(optimizer, Together)
    kernels = [p for group in optimizer.members[0].param_groups for p in group["params"]]
    assert [tuple(p.shape) for p in kernels] == [(32, 32, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3)]
    model(torch.randn(4, 1, 28, 28)).sum().backward()
    optimizer.step()
    for kernel in kernels:  # √rows, and the step's own length on top
        assert float(kernel.detach().norm()) == pytest.approx(len(kernel) ** 0.5, rel=0.1)


def test_muon_in_channels_last_equals_muon_with_channels_first() -> None:
    made = []
    for order in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=order))
        optimizer = Muon([weight], lr=0.1, renormalize=True)
        for step in range(3):
            torch.manual_seed(step)
            weight.grad = torch.randn(8, 4, 3, 3).to(memory_format=order)
            optimizer.step()
        made.append(weight.detach().contiguous())
    assert torch.allclose(made[0], made[1], atol=1e-6)


def test_linear_warm_up_ends_at_nothing() -> None:
    schedule = build_schedule(settings(schedule="warmup_linear", warmup=0.2), 100, 10)
    factors = [schedule(step) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 21)
    assert max(factors) == factors[20] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[100] == 0
