"""Whether a model can learn one small batch by heart: if not, it, its loss or its labels are broken, whatever else."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from danlu.base.errors import DataError
from danlu.data.batches import Batch, Batches, map_tensors, stream_seed
from danlu.training.losses import Loss
from danlu.training.precision import widened
from danlu.training.recorder import is_classification
from danlu.training.untouched import copied, untouched_generators

EXAMPLES = 32
SECONDS = 7.0
STEPS = 300  # at each rate
RATES = (1e-3, 1e-2, 1e-4)  # of Adam, tried in turn; a module is broken when none works
LEARNT = 0.1  # share of the first loss
LOOKED_AT = 50  # batches, until one has two classes


@dataclass(frozen=True)
class Overfit:
    """What became of one batch.

    `reached`: every answer right and the loss below a tenth of the first one. `losses` and `accuracies`: before each
    step at `rate`, and after the last; no accuracies where answers are not scores of classes. `ran_out`: time ended
    it, so that not to have reached it means little.
    """

    reached: bool
    examples: int
    classes: int
    rate: float
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    ran_out: bool
    stop_reason: str
    seconds: float

    @property
    def steps(self) -> int:
        return max(0, len(self.losses) - 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "reached": self.reached,
            "examples": self.examples,
            "classes": self.classes,
            "rate": self.rate,
            "steps": self.steps,
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "accuracies": list(self.accuracies),
            "ran_out": self.ran_out,
            "stop_reason": self.stop_reason,
            "seconds": round(self.seconds, 2),
        }


def overfit_one_batch(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    examples: int = EXAMPLES,
    seconds: float = SECONDS,
    steps: int = STEPS,
    seed: int = 0,
) -> Overfit:
    """Train a copy of `model` on one small batch of several classes until it knows it by heart.

    The examples come from the first batch with two classes or more. Dropout is off and nothing is decayed; batch norm
    works as in training. Adam is tried at three rates for `steps` steps each, since it is the module that is tested and
    not its settings. Give `batches` without augmentation and a `loss` without label smoothing; that of a
    `CrossEntropyLoss` is left out here. Source: Karpathy, A recipe for training neural networks, 2019.

    >>> x, y = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 2
    >>> from danlu.data.batches import as_batches
    >>> wide = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> overfit_one_batch(wide, as_batches([(x, y)]), Loss(nn.CrossEntropyLoss()), examples=8).reached
    True
    """
    started = time.perf_counter()
    loss = _without_smoothing(loss)
    with untouched_generators(getattr(batches, "loader", None)):
        batch = choose_examples(batches, examples)
        tries: list[Overfit] = []
        for place, rate in enumerate(RATES):
            torch.manual_seed(stream_seed(seed, place, "overfit"))
            trial = without_dropout(copied(model)).train()
            tries.append(_learn(trial, batch, loss, rate, steps, started + seconds))
            if tries[-1].reached or tries[-1].ran_out or not tries[-1].steps:
                break
    # Of several failures the one that came furthest is shown.
    best = min(
        tries, key=lambda tried: (not tried.reached, -sum(tried.accuracies[-1:]), _or_infinite(tried.losses[-1]))
    )
    return replace(best, ran_out=tries[-1].ran_out, seconds=time.perf_counter() - started)


def choose_examples(batches: Batches, count: int) -> Batch:
    """Up to `count` examples of one batch, of as many classes as it has, in turn.

    Of equal inputs only the first is taken: with two labels they could not be learnt. Raises `DataError` when there is
    no batch.
    """
    chosen: Batch | None = None
    for place, (inputs, labels) in enumerate(batches.epoch(0)):
        if chosen is None or len(labels.unique()) > 1:
            chosen = inputs, labels
        if _is_whole(labels) and len(labels.unique()) == 1 and place + 1 < LOOKED_AT:
            continue
        break
    if chosen is None:
        raise DataError("there is no batch to learn from: the training batches are empty")
    inputs, labels = chosen
    turns: dict[Any, int] = {}
    seen: set[bytes] = set()
    ranked: list[tuple[int, int]] = []
    for row in range(len(labels)):
        content = _content(inputs, row)
        if content in seen:
            continue
        seen.add(content)
        label = labels[row].item() if _is_whole(labels) else None
        turns[label] = turns.get(label, -1) + 1
        ranked.append((turns[label], row))
    rows = sorted(row for _, row in sorted(ranked)[:count])
    index = torch.tensor(rows, device=labels.device)
    return map_tensors(inputs, lambda tensor: tensor[index.to(tensor.device)]), labels[index]


def without_dropout(model: nn.Module) -> nn.Module:
    """The module itself with every rate of dropout at 0: that of dropout layers, and every number that a layer keeps
    under a name with `dropout` in it, such as `nn.LSTM.dropout`.

    >>> without_dropout(nn.Sequential(nn.Dropout(0.5)))[0].p
    0.0
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name.lower() and isinstance(value, float):
                setattr(module, name, 0.0)
    return model


def _learn(trial: nn.Module, batch: Batch, loss: Loss, rate: float, steps: int, end: float) -> Overfit:
    inputs, labels = batch
    trained = [parameter for parameter in trial.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate) if trained else None
    losses: list[float] = []
    accuracies: list[float] = []
    reached = ran_out = False
    while True:
        scores = widened(trial(inputs))
        value = loss(scores, labels)
        losses.append(float(value.detach()))
        if is_classification(scores, labels):
            accuracies.append(float((scores.argmax(1) == labels).float().mean()))
        all_right = not accuracies or accuracies[-1] == 1.0
        was_right = bool(accuracies) and accuracies[0] == 1.0
        if all_right and (was_right or losses[-1] <= LEARNT * losses[0]):
            reached, stop_reason = True, "learnt by heart"
        elif not math.isfinite(losses[-1]):
            stop_reason = "the loss is no longer a number"
        elif optimizer is None or not value.requires_grad:
            stop_reason = "no parameter gets a gradient"
        elif len(losses) > steps:
            stop_reason = f"{steps} steps done"
        elif time.perf_counter() > end:
            ran_out, stop_reason = True, "the time for it is over"
        else:
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            continue
        classes = len(labels.unique()) if _is_whole(labels) else 0
        return Overfit(
            reached=reached,
            examples=len(labels),
            classes=classes,
            rate=rate,
            losses=tuple(losses),
            accuracies=tuple(accuracies),
            ran_out=ran_out,
            stop_reason=stop_reason,
            seconds=0.0,
        )


def _without_smoothing(loss: Loss) -> Loss:
    if isinstance(loss.function, nn.CrossEntropyLoss) and loss.function.label_smoothing:
        plain = copy.deepcopy(loss.function)
        plain.label_smoothing = 0.0
        return replace(loss, function=plain)
    return loss


def _or_infinite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _is_whole(labels: Tensor) -> bool:
    return labels.ndim == 1 and not labels.is_floating_point()


def _content(inputs: Any, row: int) -> bytes:
    """The bytes of one example."""
    parts: list[bytes] = []

    def add(tensor: Tensor) -> Tensor:
        parts.append(tensor[row].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return tensor

    map_tensors(inputs, add)
    return b"".join(parts)
