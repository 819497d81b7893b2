"""The learning-rate range test: the loss while the rate rises from far too low to far too high (Smith, 2017, § 3.3).

What is read from the curve are suggestions for `training.learning_rate`, the highest rate of a schedule, and the span
of rates in which a training learns at all. All happens on a copy; the module that is given stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from statistics import fmean, median
from typing import Any

import torch
from torch import nn

from danlu.base.errors import DataError
from danlu.base.settings import TrainingSettings
from danlu.data.batches import Batch, Batches, stream_seed
from danlu.training.losses import Loss
from danlu.training.memory import checkpointed
from danlu.training.precision import Precision
from danlu.training.processes import Processes
from danlu.training.step import NoGradient, Step
from danlu.training.trainer import set_learning_rate
from danlu.training.untouched import MakeOptimizer, copied, untouched_generators

SECONDS = 16.0  # at most; planned is a part, since steps on a busy machine differ
PLANNED_SHARE = 0.7
USUALLY_SPARED = 5.0  # the factor between the rate where a loss has blown up for sure and the highest one
# Lowest and highest rate by the optimizer's class: an adaptive one steps about as far as its rate says, whatever the
# gradient is, so that 1 is far too high for any network. `Together` is Muon with AdamW at a tenth of its rate.
RANGES = dict.fromkeys(("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop"), (1e-5, 1.0)) | {
    "SGD": (1e-5, 10.0),
    "Together": (1e-4, 10.0),
    "Muon": (1e-4, 10.0),
}
ANY_RANGE = (1e-7, 10.0)
STEPS_PER_DECADE = (20, 14, 10, 7)  # the most that fit into the time; a few counts alone, so that a result comes again
TIMED_STEPS = 5
NO_GRADIENT = "no parameter gets a gradient"
OUT_OF_TIME = "the time for it is over"
STOP_FACTOR = 4.0  # times the lowest smoothed loss
SMOOTHED_DECADES = 0.25  # the weight of a neighbour falls by e at this distance
LOOK_EVERY, WELL_ABOVE = 4, 2.5  # steps, and times the rate of the blow-up, for smoothing to see both sides
BEGUN, LOST = 0.1, 0.5  # shares of the fall: it has begun, and so much of it is lost again
CHOSEN_FROM = ("steepest", "lowest_half", "blow_up_tenth")
TURNED = 3.0  # times the rate of the lowest loss: so far on, it is known that it does not fall any more
LEAST_FALL = 0.005  # share of the first loss
VALLEY_STEP = 0.005  # share of the fall; less is none
SURE = 4.5  # standard errors a fall has to exceed; the lowest of pure noise does so in one curve of a hundred


@dataclass(frozen=True)
class Reading:
    """What a curve tells.

    `smoothed`: the loss as read, (steps,). `suggestions`: rates by name, empty where the loss never falls. `suggested`:
    one of them. `falls_from`, `lowest_at`, `blows_up_at`: rates, None for what does not happen within the curve.
    `sureness`: the fall in standard errors; pure noise has 1 to 3, and below 4.5 nothing is suggested.
    """

    smoothed: tuple[float, ...] = ()
    suggestions: dict[str, float] = field(default_factory=dict)
    suggested: float | None = None
    falls_from: float | None = None
    lowest_at: float | None = None
    blows_up_at: float | None = None
    sureness: float = 0.0


@dataclass(frozen=True)
class RangeTest:
    """A curve of (rate, loss) and its reading. `losses` may end with one that is not finite, `stop_reason` says why
    it ended; `steps_per_decade` is how fast the rate rose; `ran_out`: time ended it."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    reading: Reading
    steps_per_decade: int
    ran_out: bool
    stop_reason: str
    seconds: float

    @property
    def suggested(self) -> float | None:
        return self.reading.suggested

    def judge(self, rate: float) -> str:
        """Where a rate lies: `usable`, `too low`, `too high`, or `unknown` where the loss never falls or time
        ended the test before."""
        reading = self.reading
        if reading.falls_from is None:
            return "unknown"
        if rate < reading.falls_from:
            return "too low"
        if reading.blows_up_at is not None and rate >= reading.blows_up_at:
            return "too high"
        return "usable" if rate <= self.rates[-1] else "unknown"

    def to_json(self) -> dict[str, Any]:
        reading = asdict(self.reading)
        return {
            "rates": list(self.rates),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            **{key: list(value) if isinstance(value, tuple) else value for key, value in reading.items()},
            "steps_per_decade": self.steps_per_decade,
            "ran_out": self.ran_out,
            "stop_reason": self.stop_reason,
            "seconds": round(self.seconds, 2),
        }


def range_test(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    make_optimizer: MakeOptimizer,
    *,
    settings: TrainingSettings,
    seconds: float = SECONDS,
    steps_per_decade: int | None = None,
) -> RangeTest:
    """Train a copy of `model` while its learning rate rises exponentially, and read suggestions from the losses.

    Each step sees the next batch of training, from the start again when they end, with clipping, accumulation and
    precision as `settings` (without `auto`) say. A rate rises by a factor of ten in 20 steps, or in as many as fit into
    `seconds`. It ends where the smoothed loss is above both four times the lowest and the first, where half of the fall
    is lost and does not come back, where a loss is not finite, or in time.
    Source: Smith, Cyclical learning rates for training neural networks, WACV 2017.

    >>> import torch
    >>> from danlu.data.batches import as_batches
    >>> from danlu.training.trainer import Trainer
    >>> x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    >>> pairs = [(x, (x[:, 0] > 0).long())]
    >>> trainer = Trainer(nn.Linear(5, 2), pairs, pairs, settings={"learning_rate": 0.1})
    >>> tested = range_test(
    ...     trainer.model,
    ...     as_batches(pairs),
    ...     trainer.loss,
    ...     lambda copy: torch.optim.Adam(copy.parameters(), lr=0.1),
    ...     settings=trainer.settings,
    ... )
    >>> tested.judge(1e-6), tested.judge(0.01)
    ('too low', 'usable')
    """
    started = time.perf_counter()
    with untouched_generators(getattr(batches, "loader", None)):
        trial = copied(model).train()
        optimizer = make_optimizer(trial)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        first = float(optimizer.param_groups[0]["initial_lr"])
        low, high = RANGES.get(type(optimizer).__name__, ANY_RANGE)
        low, high = min(low, first / 10), max(high, first * 3)  # the configured rate is judged too
        loss_at = _stepper(trial, batches, loss, optimizer, settings)
        taken: list[float] = []
        try:
            if steps_per_decade is None:
                for _ in range(TIMED_STEPS):
                    before = time.perf_counter()
                    loss_at(low)
                    taken.append(time.perf_counter() - before)
                    if sum(taken) > seconds / 10:
                        break
                fitting = PLANNED_SHARE * seconds / (median(taken) * math.log10(high / low / USUALLY_SPARED))
                steps_per_decade = next((n for n in STEPS_PER_DECADE if n <= fitting), STEPS_PER_DECADE[-1])
            steps = 1 + math.ceil(steps_per_decade * math.log10(high / low) - 1e-9)
            raised = [low * 10 ** (place / steps_per_decade) for place in range(steps)]
            rates, losses, stop_reason = _raise_rate(raised, loss_at, steps_per_decade, started + seconds)
        except NoGradient:
            rates, losses, stop_reason = (), (), NO_GRADIENT
    reading = read_curve(rates, losses)
    ran_out = stop_reason.startswith(OUT_OF_TIME)
    if ran_out and reading.blows_up_at is None:  # what would have come is not known
        reading = Reading(reading.smoothed, sureness=reading.sureness)
    return RangeTest(rates, losses, reading, steps_per_decade or 0, ran_out, stop_reason, time.perf_counter() - started)


def read_curve(rates: Sequence[float], losses: Sequence[float]) -> Reading:
    """Suggestions from the losses of a range test whose rates rise by the same factor each step.

    A loss is smoothed by an exponential mean in both directions, so that it is not late; what is above four times the
    lowest and above the first counts as that. It starts at the mean over the first decade of rates and falls to the
    lowest smoothed loss; a fall that could be noise is none.

    * `steepest`: where the smoothed loss falls most within half a decade of rates.
    * `valley`: two thirds along the longest stretch of falling smoothed losses, the rise between them left out.
    * `lowest_half`: half the rate of the lowest smoothed loss.
    * `blow_up_tenth`: a tenth of the rate at which half of the fall is lost again, or a loss is not finite.

    The suggested one is the middle of the first, third and fourth. Without a blow-up it is the higher one of the two
    that are left where the loss has risen since its lowest, since a blow-up would come later still, else the lower one.
    Sources: Smith (2017); the suggestions of fastai (Howard and Gugger, 2020).

    >>> rates = [1e-5 * 10 ** (step / 20) for step in range(100)]
    >>> losses = [2.0 if rate < 1e-4 else 1.0 if rate < 0.1 else 9.0 for rate in rates]
    >>> 0.005 < read_curve(rates, losses).suggestions["blow_up_tenth"] < 0.01
    True
    """
    finite = next((place for place, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    if finite < 3:
        return Reading()
    decades = math.log10(rates[finite - 1] / rates[0])
    a_decade = max(1, round((finite - 1) / decades))
    decay = _decay(a_decade)
    first = fmean(losses[: min(a_decade, finite)])
    late = _mean_before(losses[:finite], decay)
    bound = _bound(min(late), first)
    clipped = [min(loss, bound) for loss in losses[:finite]]
    smoothed = _mean_around(clipped, decay)
    lowest = min(range(finite), key=lambda place: smoothed[place])
    fall = first - smoothed[lowest]
    seen = max(lowest + 1, min(a_decade, finite))
    residuals = [loss - mean for loss, mean in zip(clipped[:seen], smoothed, strict=False)]
    error = _standard_error(residuals, lowest, finite, decay)
    sureness = fall / max(error, 1e-12)
    if fall <= max(SURE * error, LEAST_FALL * abs(first)):
        return Reading(tuple(smoothed), sureness=sureness)
    above = [place for place in range(lowest) if smoothed[place] >= first - BEGUN * fall]
    begins = rates[above[-1] if above else 0]
    lost = (place for place in range(lowest, finite) if smoothed[place] >= smoothed[lowest] + LOST * fall)
    ended_high = finite - 1 if late[-1] > bound else None
    blown = next(lost, finite if finite < len(losses) else ended_high)
    around = max(1, a_decade // 4)
    places = range(min(around, lowest), max(around, lowest) + 1)
    steepest = min(places, key=lambda place: _rise(smoothed, place - around, place + around))
    start, end = _longest_fall(smoothed, fall * VALLEY_STEP)
    suggestions = {
        "steepest": rates[steepest],
        "valley": rates[start] * (rates[end] / rates[start]) ** (2 / 3),
        "lowest_half": rates[lowest] / 2,
    }
    if blown is not None:
        suggestions["blow_up_tenth"] = rates[blown] / 10
    ranked = sorted(suggestions[name] for name in CHOSEN_FROM if name in suggestions)
    has_turned = rates[lowest] < rates[-1] / TURNED  # a blow-up beyond the end is the highest of the three
    chosen = ranked[1] if blown is not None or has_turned else ranked[0]
    return Reading(
        smoothed=tuple(smoothed),
        suggestions=suggestions,
        suggested=chosen,
        falls_from=begins,
        lowest_at=rates[lowest],
        blows_up_at=None if blown is None else rates[blown],
        sureness=sureness,
    )


def _stepper(
    trial: nn.Module, batches: Batches, loss: Loss, optimizer: torch.optim.Optimizer, settings: TrainingSettings
) -> Callable[[float], float]:
    """What takes the next step at a rate, and gives its loss before the step."""
    first = float(optimizer.param_groups[0]["initial_lr"])
    clip_norm = None if settings.clip_norm is None else float(settings.clip_norm)
    precision = Precision(settings.precision, next(trial.parameters()).device)
    forward = checkpointed(trial) if settings.gradient_checkpointing else trial
    step = Step(trial, forward, loss, optimizer, precision, clip_norm, Processes())
    windows = _windows(batches, settings.accumulation_steps)
    seeds = count(stream_seed(settings.seed, 0, "dropout"))

    def loss_at(rate: float) -> float:
        set_learning_rate(optimizer, rate / first)
        return float(step(next(windows), next(seeds)).loss)

    return loss_at


def _raise_rate(
    rates: Sequence[float], loss_at: Callable[[float], float], steps_per_decade: int, end: float
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """(rates seen, their losses, why it ended)."""
    decay = _decay(steps_per_decade)
    losses: list[float] = []
    weight = total = 0.0
    lowest = math.inf
    for place, rate in enumerate(rates):
        losses.append(loss_at(rate))
        seen = tuple(rates[: place + 1])
        if not math.isfinite(losses[-1]):
            return seen, tuple(losses), f"the loss is no longer a number, at a rate of {rate:.3g}"
        weight, total = decay * weight + 1, decay * total + losses[-1]  # the mean is total / weight, without bias
        if place >= steps_per_decade and total / weight > _bound(lowest, fmean(losses[:steps_per_decade])):
            return seen, tuple(losses), f"the loss has blown up, at a rate of {rate:.3g}"
        if place % LOOK_EVERY == 0 and place > 2 * steps_per_decade:
            blown = read_curve(seen, losses).blows_up_at
            if blown is not None and rate > WELL_ABOVE * blown:
                return seen, tuple(losses), f"the loss has stayed high up to a rate of {rate:.3g}"
        lowest = min(lowest, total / weight)
        if time.perf_counter() > end and place + 1 < len(rates):
            return seen, tuple(losses), f"{OUT_OF_TIME}, at a rate of {rate:.3g}"
    return tuple(rates), tuple(losses), f"the highest rate, {rates[-1]:.3g}, is reached"


def _windows(batches: Batches, size: int) -> Iterator[list[Batch]]:
    """As many batches together as a step sees, from the first epoch again and again."""
    window: list[Batch] = []
    epoch, is_empty = 0, True
    while True:
        for batch in batches.epoch(epoch):
            window.append(batch)
            is_empty = False
            if len(window) == size:
                yield window
                window = []
        if window:
            yield window
            window = []
        if is_empty:
            raise DataError("there is no batch to learn from: the training batches are empty")
        epoch += 1


def _bound(lowest: float, first: float) -> float:
    """Where a loss is too high to go on: four times the lowest, and no less than where it came from, so that a loss
    that fell near 0 may rise again."""
    return max(STOP_FACTOR * lowest, first)


def _decay(steps_per_decade: float) -> float:
    return math.exp(-1 / (SMOOTHED_DECADES * steps_per_decade))


def _mean_before(losses: Sequence[float], decay: float) -> list[float]:
    """The exponential mean of what came before and now, bias-corrected."""
    means, weight, total = [], 0.0, 0.0
    for loss in losses:
        weight, total = decay * weight + 1, decay * total + loss
        means.append(total / weight)
    return means


def _mean_around(losses: Sequence[float], decay: float) -> list[float]:
    """The exponential mean in both directions, the loss itself counted once."""
    number = len(losses)
    sums = []
    for values in (losses, [1.0] * number):
        before, after = [0.0] * number, [0.0] * number
        for place in range(1, number):
            before[place] = decay * (before[place - 1] + values[place - 1])
            after[-1 - place] = decay * (after[-place] + values[-place])
        sums.append([value + b + a for value, b, a in zip(values, before, after, strict=True)])
    return [total / weight for total, weight in zip(*sums, strict=True)]


def _standard_error(residuals: Sequence[float], place: int, number: int, decay: float) -> float:
    """Of the difference between the mean of the first residuals and the smoothed loss at a place of `number`.

    `residuals`: losses less their smoothed ones, of the steps before the loss blows up; neighbours count by decay.
    """
    variance = fmean(residual**2 for residual in residuals)
    weights = [decay ** abs(other - place) for other in range(number)]
    of_smoothed = sum(weight**2 for weight in weights) / sum(weights) ** 2
    return math.sqrt(variance * (of_smoothed + 1 / len(residuals)))


def _rise(smoothed: Sequence[float], start: int, end: int) -> float:
    """How much the smoothed loss rises a step between two places, as far as there are some."""
    start, end = max(0, start), min(len(smoothed) - 1, end)
    return (smoothed[end] - smoothed[start]) / max(1, end - start)


def _longest_fall(smoothed: Sequence[float], least: float) -> tuple[int, int]:
    """(first, last) place of the longest subsequence that falls by more than `least` each time."""
    lengths, before = [1] * len(smoothed), [-1] * len(smoothed)
    for place in range(len(smoothed)):
        for earlier in range(place):
            if smoothed[earlier] - smoothed[place] > least and lengths[earlier] + 1 >= lengths[place]:
                lengths[place], before[place] = lengths[earlier] + 1, earlier
    last = first = lengths.index(max(lengths))
    while before[first] >= 0:
        first = before[first]
    return first, last
