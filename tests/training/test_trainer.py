"""The loop on modules and loaders of the user's own."""

from __future__ import annotations

import random
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

import danlu
from danlu.base.errors import ConfigError, DataError, MachineError, ModelError
from danlu.data.batches import as_batches
from danlu.training.checkpoints import load_checkpoint
from danlu.training.keeper import Hooks
from danlu.training.memory import channels_last_gradients
from danlu.training.trainer import Outcome, Trainer, validate


class Spirals(Dataset[tuple[Tensor, int]]):
    """A user's own data set."""

    def __init__(self, noise: str = "none") -> None:
        self.noise = noise

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        example = torch.randn(6, generator=generator) + index % 3
        if self.noise == "torch":
            example = example + torch.randn(6)
        if self.noise == "numpy":
            example = example + float(np.random.rand())
        if self.noise == "python":
            example = example * random.random()
        return example, index % 3


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    return DataLoader(Spirals(), batch_size=16), DataLoader(Spirals(), batch_size=20)


def fit(model: nn.Module, train: Any, validation: Any, settings: dict[str, Any], **more: Any) -> Outcome:
    return Trainer(model, train, validation, settings=settings).fit(**more)


def test_users_own_dataset_and_loader_train() -> None:
    train, validation = loaders()
    trainer = danlu.Trainer(net(), train, validation, settings={"epochs": 15, "learning_rate": 0.02})
    outcome = trainer.fit()
    assert (outcome.best.validation_accuracy or 0) > 0.6
    assert [row.epoch for row in outcome.history] == list(range(15))
    assert outcome.stop_reason == "all 15 epochs done"


def test_users_own_loss_and_optimizer_are_used_as_they_are() -> None:
    train, validation = loaders()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    outcome = Trainer(model, train, validation, nn.CrossEntropyLoss(), optimizer, settings={"epochs": 3}).fit()
    assert [row.learning_rate for row in outcome.history] == [0.05] * 3
    assert outcome.history[-1].train_loss < outcome.history[0].train_loss


def test_first_epoch_equals_a_loop_written_by_hand() -> None:
    pairs = [(torch.randn(8, 6), torch.arange(8) % 3) for _ in range(4)]
    torch.manual_seed(1)
    model, by_hand = nn.Linear(6, 3), nn.Linear(6, 3)
    by_hand.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    for inputs, labels in pairs:
        optimizer.zero_grad()
        functional.cross_entropy(by_hand(inputs), labels).backward()
        optimizer.step()
    own = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    Trainer(model, pairs, pairs, nn.CrossEntropyLoss(), own, settings={"epochs": 1}).fit()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), by_hand.parameters(), strict=True))


def test_regression_has_a_loss_and_no_accuracy() -> None:
    inputs = torch.linspace(-1, 1, 32)[:, None]
    pairs = [(inputs, 2 * inputs + 1)]
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    outcome = Trainer(model, pairs, pairs, nn.MSELoss(), optimizer, settings={"epochs": 60}).fit()
    assert outcome.best.validation_accuracy is None
    assert outcome.best.validation_loss < 1e-4
    assert model.weight.item() == pytest.approx(2, abs=0.05)


def test_inputs_may_be_tensors_in_dicts_lists_and_tuples() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, inputs: dict[str, Any]) -> Tensor:
            scores: Tensor = self.linear(torch.cat([inputs["left"], inputs["more"][0]], 1))
            return scores

    pairs = [(OrderedDict(left=torch.randn(8, 2), more=(torch.randn(8, 2),), name="a"), torch.arange(8) % 2)]
    assert len(fit(Two(), pairs, pairs, {"epochs": 2, "accumulation_steps": 2}).history) == 2


def test_loader_without_a_length_is_refused_with_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=r"length of generator is not known"):
        Trainer(net(), (pair for pair in []), [], settings={"epochs": 1})


def test_losses_and_accuracy_are_weighted_by_examples_not_by_batches() -> None:
    inputs, labels = torch.randn(10, 6), torch.arange(10) % 3
    model = net().eval()
    odd = as_batches(DataLoader(TensorDataset(inputs, labels), batch_size=7))  # 7 and 3
    loss, accuracy = validate(model, odd.epoch(0))
    assert loss == pytest.approx(functional.cross_entropy(model(inputs), labels).item(), rel=1e-6)
    assert accuracy == pytest.approx((model(inputs).argmax(1) == labels).float().mean().item())


def test_outcome_carries_the_best_weights_not_the_last() -> None:
    train, validation = loaders()
    outcome = fit(net(), train, validation, {"epochs": 8, "learning_rate": 0.3, "schedule": "constant", "ema": 0})
    loss, accuracy = validate(outcome.model, as_batches(validation).epoch(0))
    assert accuracy == outcome.best.validation_accuracy
    assert loss == pytest.approx(outcome.best.validation_loss, rel=1e-6)


def test_validation_leaves_no_gradients_and_dropout_off() -> None:
    train, validation = loaders()
    seen: list[bool] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.training)
            assert self.training == torch.is_grad_enabled()
            return self.inner(x)  # type: ignore[no-any-return]

    fit(Watch(), train, validation, {"epochs": 1})
    assert seen == [True] * 6 + [False] * 5


def test_nan_loss_is_named_with_its_step_and_a_way_out() -> None:
    good = (torch.randn(8, 6), torch.zeros(8, dtype=torch.int64))
    steps = []

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        steps.append(1)
        return nn.functional.cross_entropy(scores, labels) * (float("nan") if len(steps) == 3 else 1)

    with pytest.raises(ModelError, match=r"training loss became NaN in epoch 1, step 3[\s\S]*training\.learning_rate"):
        Trainer(net(), [good] * 4, [good], loss, settings={"epochs": 1}).fit()


def test_nan_is_found_within_32_steps_not_at_the_end_of_the_epoch() -> None:
    seen = []

    class Counted(list[Any]):
        def __iter__(self) -> Any:
            for pair in list.__iter__(self):
                seen.append(1)
                yield pair

    bad = (torch.full((4, 6), float("nan")), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match=r"batch 1 of epoch 1 holds NaN"):
        fit(nn.Linear(6, 3), Counted([bad] * 500), [bad], {"epochs": 1})
    assert len(seen) < 40


def test_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"training\.learing_rate +unknown key; nearest: 'learning_rate'"):
        fit(net(), [], [], {"learing_rate": 1})


def test_clipping_bounds_the_step() -> None:
    batches = [(torch.randn(8, 6) * 1e4, torch.zeros(8, dtype=torch.int64))]
    plain = {"epochs": 1, "optimizer": "sgd", "momentum": 0, "schedule": "constant", "learning_rate": 1.0}
    model = nn.Linear(6, 3)
    before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
    outcome = fit(model, batches, batches, {**plain, "weight_decay": 0, "clip_norm": 0.5})
    after = torch.cat([p.detach().reshape(-1) for p in outcome.model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_early_stopping_ends_the_loop_with_its_reason() -> None:
    batches = [(torch.zeros(4, 6), torch.zeros(4, dtype=torch.int64))]
    settings = {"epochs": 50, "patience": 2, "learning_rate": 1e-9, "best_by": "validation_accuracy"}
    outcome = fit(nn.Linear(6, 3), batches, batches, {**settings, "weight_decay": 0})
    assert len(outcome.history) < 50
    assert outcome.stop_reason.startswith("no better validation accuracy for 2 epochs")


def test_unreadable_example_is_named_with_its_batch_and_cause() -> None:
    class Broken(Spirals):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            if index == 40:
                raise OSError("cannot identify image file 'cat/0040.jpg'")
            return super().__getitem__(index)

    with pytest.raises(DataError, match=r"batch 3 of epoch 1 cannot be read: OSError: .*cat/0040\.jpg"):
        fit(net(), DataLoader(Broken(), batch_size=16), loaders()[1], {"epochs": 1})


# Accumulation: the gradient of several batches is that of their examples together.


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "mse"])
@pytest.mark.parametrize("balanced", [False, True])
def test_accumulated_batches_equal_one_large_batch_also_in_the_last_window(loss: str, balanced: bool) -> None:
    from danlu.training.losses import balanced_weights, build_loss

    generator = torch.Generator().manual_seed(3)
    inputs, labels = torch.randn(44, 6, generator=generator), torch.randint(0, 3, (44,), generator=generator)
    small = [(inputs[i : i + 8], labels[i : i + 8]) for i in range(0, 44, 8)]  # 8 8 8 | 8 8 4
    large = [(inputs[:24], labels[:24]), (inputs[24:], labels[24:])]
    plain = {"epochs": 2, "optimizer": "sgd", "learning_rate": 0.1, "loss": loss, "schedule": "constant"}
    made = []
    for batches, steps in ((small, 3), (large, 1)):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        trainer = Trainer(model, batches, large, settings={**plain, "accumulation_steps": steps})
        if balanced:
            trainer.loss = build_loss(trainer.settings, balanced_weights(labels, 3))
        outcome = trainer.fit()
        made.append((outcome, torch.cat([p.detach().reshape(-1) for p in model.parameters()])))
    assert made[0][1].sub(made[1][1]).abs().max() < 1e-6
    assert made[0][0].history[1].train_loss == pytest.approx(made[1][0].history[1].train_loss, rel=1e-5)
    assert made[0][0].history[1].train_accuracy == made[1][0].history[1].train_accuracy
    assert [row.step for row in made[0][0].history] == [2, 4]


# Memory: half as many examples at a time, the same step.


class Hungry(nn.Module):
    """Runs out of memory with more than `limit` examples, in the forward or the backward pass."""

    def __init__(self, limit: int, where: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.limit, self.where = nn.Linear(6, 3), limit, where

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(x)
        if len(x) > self.limit and self.training:
            if self.where == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            scores.register_hook(self.fail)
        return scores

    @staticmethod
    def fail(gradient: Tensor) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_out_of_memory_halves_what_is_computed_at_a_time_and_keeps_the_step(
    where: str, accumulation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = torch.Generator().manual_seed(3)
    pairs = [(torch.randn(16, 6, generator=generator), torch.arange(16) % 3) for _ in range(5)]
    made = []
    for limit in (1000, 5):
        settings = {"epochs": 2, "accumulation_steps": accumulation, "optimizer": "sgd", "learning_rate": 0.1}
        outcome = fit(Hungry(limit, where), pairs, pairs, settings)
        made.append(torch.cat([p.detach().reshape(-1) for p in outcome.model.parameters()]))
    assert (made[0] - made[1]).abs().max() < 1e-6
    told = capsys.readouterr().err
    assert "out of memory with 16 examples at a time; from here on 8 at a time. A step still sees 16" in told
    assert "out of memory with 8 examples at a time; from here on 4 at a time" in told
    assert told.count("out of memory") == 2


def test_out_of_memory_with_one_example_is_an_error_with_ways_out() -> None:
    pairs = [(torch.randn(4, 6), torch.arange(4) % 3)]
    with pytest.raises(MachineError, match=r"out of memory with 1 examples at a time: CUDA[\s\S]*gradient_checkpoint"):
        fit(Hungry(0, "forward"), pairs, pairs, {"epochs": 1})


def test_checkpointed_activations_give_the_same_weights_and_statistics() -> None:
    train, validation = loaders()
    made = []
    for keeps_few in (False, True):
        outcome = fit(net(), train, validation, {"epochs": 3, "gradient_checkpointing": keeps_few})
        made.append(outcome.model.state_dict())
    for name, value in made[0].items():
        assert torch.equal(value, made[1][name]), name


def test_checkpointing_needs_a_chain_of_layers() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.inner(x)
            return scores

    train, validation = loaders()
    with pytest.raises(ConfigError, match=r"chains of layers \(nn\.Sequential\), this is Own"):
        fit(Own(), train, validation, {"epochs": 1, "gradient_checkpointing": True})


# Going on: see also test_resume.py.


@pytest.mark.parametrize("noise", ["none", "torch", "numpy", "python"])
@pytest.mark.parametrize("workers", [0, 1])
def test_users_shuffled_loader_with_random_changes_resumes_bit_for_bit(
    tmp_path: Path, noise: str, workers: int
) -> None:
    if workers and noise != "torch":
        pytest.skip("one kind with worker processes is enough")

    def run(folder: Path, stop_at: int | None) -> Outcome:
        train = DataLoader(Spirals(noise), batch_size=16, shuffle=True, num_workers=workers)
        rows: list[Any] = []

        def on_steps(new: list[Any]) -> None:
            rows.extend(new)
            if stop_at is not None and len(rows) >= stop_at:
                raise KeyboardInterrupt

        trainer = Trainer(net(), train, loaders()[1], settings={"epochs": 3, "learning_rate": 0.02, "ema": 0.9})
        return trainer.fit(folder, every_steps=1, hooks=Hooks(on_steps=on_steps))

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 9)  # in the middle of the second epoch
    torch.manual_seed(123)
    resumed = run(tmp_path / "cut", None)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert [row.train_loss for row in resumed.history] == [row.train_loss for row in whole.history]


def test_loader_that_does_not_repeat_itself_is_refused_on_resume_unless_told(tmp_path: Path) -> None:
    class Drifting:
        def __init__(self, salt: int) -> None:
            self.generator_of_its_own = torch.Generator().manual_seed(salt)

        def __len__(self) -> int:
            return 5

        def __iter__(self) -> Any:
            for _ in range(5):
                yield torch.randn(8, 6, generator=self.generator_of_its_own), torch.arange(8) % 3

    def run(salt: int, stop: bool, **more: Any) -> Outcome:
        def on_steps(rows: list[Any]) -> None:
            if stop and rows[-1]["step"] == 3:
                raise KeyboardInterrupt

        trainer = Trainer(net(), Drifting(salt), loaders()[1], settings={"epochs": 2})
        return trainer.fit(tmp_path / "c", every_steps=1, hooks=Hooks(on_steps=on_steps), **more)

    with pytest.raises(KeyboardInterrupt):
        run(1, stop=True)
    with pytest.raises(ConfigError, match=r"batch 3 of epoch 1 is not what it was"):
        run(2, stop=False)
    assert len(run(2, stop=False, inexact=True).history) == 2


def test_batch_norm_on_a_single_last_example_is_an_error_with_a_way_out() -> None:
    pairs = [(torch.randn(8, 6), torch.arange(8) % 3), (torch.randn(1, 6), torch.zeros(1, dtype=torch.int64))]
    with pytest.raises(ModelError, match=r"batch norm cannot train on a batch of one[\s\S]*training\.batch_size"):
        fit(net(), pairs, pairs, {"epochs": 1})


def test_deterministic_kernels_are_asked_for_while_training_only() -> None:
    seen = []
    pairs = [(torch.randn(8, 6), torch.arange(8) % 3)]
    hooks = Hooks(on_epoch=lambda row: seen.append(torch.are_deterministic_algorithms_enabled()))
    fit(net(), pairs, pairs, {"epochs": 1, "deterministic": True}, hooks=hooks)
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_fp16_scales_the_loss_and_keeps_its_scale_over_a_resume(tmp_path: Path) -> None:
    """In the scaler's own terms: the processor has no fast fp16, and the numbers are the same."""
    pairs = [(torch.randn(8, 6), torch.arange(8) % 3) for _ in range(3)]
    settings = {"epochs": 2, "precision": "fp16", "clip_norm": 1.0, "optimizer": "sgd"}

    def stop(rows: list[Any]) -> None:
        if rows[-1]["step"] == 2:
            raise KeyboardInterrupt

    made = [nn.Linear(6, 3) for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())
    whole = fit(made[0], pairs, pairs, settings, folder=tmp_path / "whole", every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        fit(made[1], pairs, pairs, settings, folder=tmp_path / "cut", every_steps=1, hooks=Hooks(on_steps=stop))
    resumed = fit(made[1], pairs, pairs, settings, folder=tmp_path / "cut", every_steps=1)
    states = [load_checkpoint(tmp_path / name, "latest").values["scaler"] for name in ("whole", "cut")]
    assert states[0] == states[1]
    assert states[0]["_growth_tracker"] == 6
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


def test_gradients_come_back_through_flatten_in_the_order_of_what_went_in() -> None:
    torch.manual_seed(0)
    convolution, flatten = nn.Conv2d(3, 4, 3), nn.Flatten()
    model = nn.Sequential(convolution, flatten, nn.Linear(4 * 36, 2)).to(memory_format=torch.channels_last)
    images = torch.randn(5, 3, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    orders, gradients = [], []
    for block in (nullcontext(), channels_last_gradients(model)):
        with block:
            seen: list[torch.Tensor] = []
            handle = convolution.register_full_backward_hook(lambda _, inner, outer, seen=seen: seen.append(outer[0]))
            model(images).sum().backward()
            handle.remove()
        orders.append(seen[0].is_contiguous(memory_format=torch.channels_last))
        gradients.append(convolution.weight.grad.clone())
        model.zero_grad()
    assert orders == [False, True]
    assert torch.equal(*gradients)
