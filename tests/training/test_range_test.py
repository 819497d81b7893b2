"""The learning-rate range test: what is read from known curves, and that nothing is left of having looked."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from danlu.base.errors import DataError
from danlu.data.batches import as_batches
from danlu.training.range_test import RangeTest, range_test, read_curve
from danlu.training.trainer import Trainer
from danlu.training.untouched import same_kind

RATES = [1e-6 * 10 ** (step / 20) for step in range(141)]  # 1e-6 to 10


def curve(falls_at: float, blows_up_at: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """2.3, down to 0.8 around one rate, up again around another."""
    rng = np.random.default_rng(seed)
    rates = np.log10(RATES)
    fallen = 1 / (1 + np.exp(-6 * (rates - math.log10(falls_at))))
    blown = np.exp(np.clip(8 * (rates - math.log10(blows_up_at)), -50, 50))
    return list(2.3 - 1.5 * fallen + 0.75 * blown + noise * rng.standard_normal(len(rates)))


def pairs(count: int = 4, rows: int = 32) -> list[tuple[Tensor, Tensor]]:
    """Batches of three classes that a linear layer can nearly tell apart."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count * rows, 6, generator=generator)
    y = (x[:, :3] + 0.5 * torch.randn(count * rows, 3, generator=generator)).argmax(1)
    return [(x[i : i + rows], y[i : i + rows]) for i in range(0, count * rows, rows)]


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))


def probed(model: nn.Module, batches: Any = None, loss: Any = None, **options: Any) -> RangeTest:
    own = {"optimizer": "adamw", "learning_rate": 1e-3, "seed": options.pop("seed", 0)}
    batches = pairs() if batches is None else batches
    trainer = Trainer(model, batches, batches, loss, settings={**own, **options.pop("settings", {})})
    options.setdefault("steps_per_decade", 14)
    make = same_kind(trainer.optimizer, model)
    return range_test(model, trainer.train_batches, trainer.loss, make, settings=trainer.settings, **options)


def test_steepest_is_where_the_loss_falls_fastest() -> None:
    for falls_at in (1e-4, 1e-3, 1e-2):
        assert 0.8 < read_curve(RATES, curve(falls_at, 1.0)).suggestions["steepest"] / falls_at < 1.25


def test_valley_is_two_thirds_along_the_fall() -> None:
    losses = [2.0] * 40 + [2.0 - 0.025 * step for step in range(40)] + [1.0 + 0.2 * step for step in range(61)]
    found = read_curve(RATES, losses).suggestions["valley"]
    assert RATES[50] < found < RATES[66]  # 40 to 79, with corners rounded by smoothing


def test_blow_up_tenth_is_a_tenth_of_where_half_of_the_fall_is_lost() -> None:
    for blows_up_at in (0.03, 0.3):
        reading = read_curve(RATES, curve(1e-3, blows_up_at))
        assert reading.blows_up_at is not None
        assert 0.6 < reading.blows_up_at / blows_up_at < 1.3
        assert reading.suggestions["blow_up_tenth"] == pytest.approx(reading.blows_up_at / 10)


def test_lowest_half_is_half_the_rate_of_the_lowest_loss() -> None:
    reading = read_curve(RATES, curve(1e-3, 0.1))
    assert reading.lowest_at is not None
    assert 5e-3 < reading.lowest_at < 0.08
    assert reading.suggestions["lowest_half"] == pytest.approx(reading.lowest_at / 2)


def test_suggested_is_the_middle_one_of_three() -> None:
    reading = read_curve(RATES, curve(1e-3, 0.1))
    three = sorted(reading.suggestions[name] for name in ("steepest", "lowest_half", "blow_up_tenth"))
    assert reading.suggested == three[1]


def test_suggestions_hold_within_a_factor_of_three_whatever_the_noise_is() -> None:
    clean = read_curve(RATES, curve(1e-3, 0.1)).suggested
    assert clean is not None
    for seed in range(20):
        found = read_curve(RATES, curve(1e-3, 0.1, noise=0.3, seed=seed)).suggested
        assert found is not None
        assert 1 / 3 < found / clean < 3, seed


def test_usable_span_begins_with_the_fall_and_ends_with_the_blow_up() -> None:
    reading = read_curve(RATES, curve(1e-3, 0.1))
    assert reading.falls_from is not None
    assert 1e-4 < reading.falls_from < 1e-3
    test = RangeTest(tuple(RATES), (), reading, 20, False, "", 0.0)
    assert [test.judge(rate) for rate in (1e-5, 1e-3, 0.5)] == ["too low", "usable", "too high"]


def test_pure_noise_gives_no_suggestion() -> None:
    rng = np.random.default_rng(0)
    found = [read_curve(RATES, list(2.3 + 0.1 * rng.standard_normal(len(RATES)))).suggested for _ in range(200)]
    assert sum(one is not None for one in found) <= 4


def test_loss_that_never_falls_gives_no_suggestion() -> None:
    assert read_curve(RATES, [2.3] * 100 + [2.3 * 1.1**step for step in range(41)]).suggestions == {}


def test_loss_that_never_rises_has_no_blow_up_and_still_a_suggestion() -> None:
    reading = read_curve(RATES, curve(1e-3, 1e9))
    assert reading.blows_up_at is None
    assert "blow_up_tenth" not in reading.suggestions
    assert reading.suggested == reading.suggestions["steepest"]


def test_without_a_blow_up_a_risen_loss_gives_the_higher_one_of_two() -> None:
    losses = [
        loss + 0.02 * max(0.0, math.log10(rate / 0.05)) for loss, rate in zip(curve(1e-3, 1e9), RATES, strict=True)
    ]
    reading = read_curve(RATES, losses)
    assert reading.blows_up_at is None
    assert reading.suggested == reading.suggestions["lowest_half"]
    assert reading.suggestions["lowest_half"] > reading.suggestions["steepest"]


def test_loss_that_is_no_number_is_the_blow_up() -> None:
    losses = [*curve(1e-3, 1e9)[:100], math.nan]
    assert read_curve(RATES[:101], losses).blows_up_at == RATES[100]


def test_curve_of_nothing_but_nan_gives_no_suggestion() -> None:
    assert read_curve(RATES[:1], [math.nan]).suggested is None


def test_loss_near_zero_is_not_blown_up_by_a_little_noise() -> None:
    rng = np.random.default_rng(0)
    losses = [2.3 / (1 + (rate / 1e-3) ** 2) + 0.02 * abs(rng.standard_normal()) for rate in RATES]
    assert read_curve(RATES, losses).blows_up_at is None


def test_range_test_of_a_network_suggests_a_rate_that_learns() -> None:
    found = probed(net())
    assert found.suggested is not None
    assert 1e-4 < found.suggested < 0.3
    assert found.judge(found.suggested) == "usable"


def test_equal_seeds_give_equal_curves() -> None:
    first, second = probed(net()), probed(net())
    assert first.losses == second.losses
    assert first.reading == second.reading


def test_suggestions_of_other_seeds_are_within_a_factor_of_three() -> None:
    found = [probed(net(seed), seed=seed).suggested for seed in range(5)]
    rates = [rate for rate in found if rate is not None]
    assert len(rates) == 5
    assert max(rates) / min(rates) < 3


def test_module_and_generators_are_what_they_were() -> None:
    model = net().eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(11)
    np.random.seed(12)
    random.seed(13)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    probed(model)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1], before[2]) == (np.random.get_state()[1].tolist(), random.getstate())


def test_generator_of_a_loader_is_what_it_was() -> None:
    data = [(x, y) for batch in pairs() for x, y in zip(*batch, strict=True)]
    generator = torch.Generator().manual_seed(5)
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, generator=generator)  # type: ignore[arg-type]
    before = generator.get_state()
    probed(net(), batches=loader)
    assert torch.equal(before, generator.get_state())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "muon"])
def test_every_optimizer_gets_a_suggestion(name: str) -> None:
    found = probed(net(), settings={"optimizer": name})
    assert found.suggested is not None


def test_configured_rate_is_inside_the_curve_wherever_it_is() -> None:
    for rate in (1e-9, 30.0):
        trainer = Trainer(net(), pairs(), pairs(), settings={"optimizer": "adamw", "learning_rate": rate})
        make = same_kind(trainer.optimizer, trainer.model)
        found = range_test(
            trainer.model, trainer.train_batches, trainer.loss, make, settings=trainer.settings, steps_per_decade=7
        )
        assert found.judge(rate) == ("too low" if rate < 1 else "too high")


def test_loss_that_becomes_nan_ends_the_test() -> None:
    def breaks(scores: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores, labels) + (scores.abs().max() > 50) * math.nan

    found = probed(net(), loss=breaks)
    assert math.isnan(found.losses[-1])
    assert "no longer a number" in found.stop_reason
    assert found.to_json()["losses"][-1] is None


def test_time_is_kept_and_told_and_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danlu.training.range_test.time.perf_counter", ticking(0.05))
    found = probed(net(), seconds=3.0)
    assert found.ran_out
    assert found.stop_reason.startswith("the time for it is over, at a rate of ")
    assert found.suggested is None
    assert found.judge(1e-3) == "unknown"


def test_slow_steps_make_the_rate_rise_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danlu.training.range_test.time.perf_counter", ticking(0.03))
    found = probed(net(), seconds=3.2, steps_per_decade=None)
    assert found.steps_per_decade == 14


def test_steps_go_on_from_the_first_batch_when_the_batches_end() -> None:
    assert len(probed(net(), batches=pairs(count=1)).losses) > 40


def test_empty_batches_are_an_error() -> None:
    with pytest.raises(DataError, match="the training batches are empty"):
        probed(net(), batches=[])


def test_optimizer_of_another_module_is_refused() -> None:
    from danlu.base.errors import ModelError

    with pytest.raises(ModelError, match="2 of the 2 parameters of the optimizer are not the module's"):
        same_kind(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0), net())


def test_copied_optimizer_starts_without_moments_over_the_copy() -> None:
    model, other = net(0), net(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    model(torch.randn(4, 6)).sum().backward()
    optimizer.step()
    made = same_kind(optimizer, model)(other)
    assert not made.state
    assert made.param_groups[0]["lr"] == 0.5
    assert [id(p) for p in made.param_groups[0]["params"]] == [id(p) for p in other.parameters()]
    assert optimizer.state


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that is so much later whenever it is asked."""
    now = [0.0]

    def ask() -> float:
        now[0] += seconds
        return now[0]

    return ask


class Watched(nn.Module):
    """Keeps what it is shown; copies keep it in the same list."""

    seen: list[Tensor] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        scores: Tensor = self.layer(x)
        return scores


def test_batches_are_those_of_training() -> None:
    Watched.seen.clear()
    probed(Watched())
    expected = [x for x, _ in as_batches(pairs()).epoch(0)]
    assert all(torch.equal(x, other) for x, other in zip(Watched.seen[:4], expected, strict=True))
