"""The loop on modules and loaders of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import danlu
from danlu.base.errors import ConfigError, ModelError
from danlu.training.checkpoints import Checkpoints, load_checkpoint
from danlu.training.fit import fit, validate


class Spirals(Dataset[tuple[Tensor, int]]):
    """A user's own data set."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(6, generator=generator) + index % 3, index % 3


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    return DataLoader(Spirals(), batch_size=16), DataLoader(Spirals(), batch_size=20)


def test_users_own_dataset_and_loader_train() -> None:
    train, validation = loaders()
    outcome = danlu.fit(net(), train, validation, {"epochs": 15, "learning_rate": 0.02})
    assert outcome.best.validation_accuracy > 0.6
    assert [row.epoch for row in outcome.history] == list(range(15))
    assert outcome.stop_reason == "all 15 epochs done"


def test_losses_and_accuracy_are_weighted_by_examples_not_by_batches() -> None:
    inputs, labels = torch.randn(10, 6), torch.arange(10) % 3
    model = net().eval()
    odd = DataLoader(TensorDataset(inputs, labels), batch_size=7)  # 7 and 3
    from danlu.data.batches import as_batches

    loss, accuracy = validate(model, as_batches(odd))
    assert loss == pytest.approx(nn.functional.cross_entropy(model(inputs), labels).item(), rel=1e-6)
    assert accuracy == pytest.approx((model(inputs).argmax(1) == labels).float().mean().item())


def test_outcome_carries_the_best_weights_not_the_last() -> None:
    train, validation = loaders()
    outcome = fit(net(), train, validation, {"epochs": 8, "learning_rate": 0.3, "schedule": "constant", "ema": 0})
    loss, accuracy = validate(outcome.model, danlu_batches(validation))
    assert accuracy == outcome.best.validation_accuracy
    assert loss == pytest.approx(outcome.best.validation_loss, rel=1e-6)


def danlu_batches(loader: DataLoader[Any]) -> Any:
    from danlu.data.batches import as_batches

    return as_batches(loader)


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


def test_nan_loss_is_named_with_its_epoch_and_a_way_out() -> None:
    inputs = torch.full((8, 6), float("nan"))
    batches = [(inputs, torch.zeros(8, dtype=torch.int64))]
    with pytest.raises(ModelError, match=r"training loss became nan in epoch 1[\s\S]*training\.learning_rate"):
        fit(net(), batches, batches, {"epochs": 1})


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


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "schedule": "one_cycle"},
        {"optimizer": "sgd", "schedule": "plateau", "plateau_patience": 1, "ema": 0.9},
        {"optimizer": "muon", "schedule": "warmup_cosine", "clip_norm": 0.5},
    ],
    ids=["adamw", "sgd-plateau-ema", "muon"],
)
def test_training_resumed_after_an_epoch_equals_uninterrupted_training(
    tmp_path: Path, cut: int, settings: dict[str, Any]
) -> None:
    import numpy as np

    from danlu.data.batches import TextBatches
    from danlu.data.prepare import Part
    from danlu.models.build import build_model
    from danlu.models.shapes import TextShape

    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    rows = [list(rng.integers(2, 12, size=rng.integers(2, 9)) + 10 * label) for label in labels]
    part = Part(rows, labels, np.arange(40))
    settings = {"epochs": 4, "learning_rate": 0.02, **settings}

    def run(folder: Path, stop_after: int | None) -> Any:
        def stop(row: Any) -> None:
            if stop_after is not None and row.epoch + 1 == stop_after:
                raise KeyboardInterrupt

        keeper = Checkpoints(folder)
        keeper.is_due = lambda: True  # type: ignore[method-assign]
        batches = TextBatches(part, batch_size=8, seed=3)
        model = build_model("ngrams", TextShape(30, 9), 2, {"buckets": 64}, seed=1)
        return fit(model, batches, batches, settings, checkpoints=keeper, on_epoch=stop)

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", cut)
    torch.manual_seed(999)  # whatever the process did before must not matter
    resumed = run(tmp_path / "cut", None)
    without_time = [{k: v for k, v in r.to_json().items() if "second" not in k} for r in whole.history]
    assert [{k: v for k, v in r.to_json().items() if "second" not in k} for r in resumed.history] == without_time
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    one = load_checkpoint(tmp_path / "whole", "latest").tensors
    two = load_checkpoint(tmp_path / "cut", "latest").tensors
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
