"""Epochs of danlu's Trainer and of a bare loop in turn in one process: the same model, batches, optimizer and threads.

The Trainer's clock runs from the first batch asked for until the loop asks for one more after the last step, so it
covers the loop, metrics and the saves that fall between steps. The bare loop trains a copy between two epochs; the
Trainer's saves do not see the time it takes.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

import contract

from danlu.base.machine import keep_freed_memory, spin_briefly

spin_briefly()  # both as the command does, before PyTorch is imported
keep_freed_memory()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from danlu.data.batches import Batch  # noqa: E402
from danlu.models.build import build_model  # noqa: E402
from danlu.models.shapes import ImageShape  # noqa: E402
from danlu.training.keeper import Hooks, Keeper  # noqa: E402
from danlu.training.optimizers import build_optimizer  # noqa: E402
from danlu.training.trainer import Trainer  # noqa: E402


@dataclass(frozen=True)
class Case:
    shape: ImageShape
    steps: int  # of an epoch: a multiple of those danlu's metrics are summed over
    options: dict[str, object]


CASES = {
    "digit_cnn": Case(ImageShape(1, 28, 28), 32, {}),
    "vgg_cnn": Case(ImageShape(3, 32, 32), 32, {}),
    "mlp": Case(ImageShape(1, 28, 28), 608, {"dropout": 0}),
}


class TimedKeeper(Keeper):
    """`running`: the one of the training that runs. `save_seconds`: of the saves since it was last emptied."""

    running: TimedKeeper
    save_seconds: list[float]

    def begin(self, *, inexact: bool) -> dict[str, Tensor]:
        TimedKeeper.running, self.save_seconds = self, []
        return super().begin(inexact=inexact)

    def save(self) -> None:
        started = time.perf_counter()
        super().save()
        self.save_seconds.append(time.perf_counter() - started)

    def forget(self, seconds: float) -> None:
        """Time that has not passed for the rhythm of the saves."""
        assert self.checkpoints is not None
        self.checkpoints.cadence.saved_at += seconds


class TimedBatches:
    def __init__(self, pairs: list[Batch]) -> None:
        self.pairs = pairs
        self.seconds: list[float] = []
        self.save_seconds: list[float] = []

    def __len__(self) -> int:
        return len(self.pairs)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        TimedKeeper.running.save_seconds.clear()
        started = time.perf_counter()
        yield from self.pairs[start:]
        self.seconds.append(time.perf_counter() - started)
        self.save_seconds.append(sum(TimedKeeper.running.save_seconds))


class BareLoop:
    """Run as `on_epoch`: one epoch without metrics, checkpoints or anything else."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, pairs: list[Batch]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.pairs = pairs
        self.seconds: list[float] = []

    def __call__(self, _: object) -> None:
        self.model.train()
        started = time.perf_counter()
        self.epoch()
        seconds = time.perf_counter() - started
        self.seconds.append(seconds)
        TimedKeeper.running.forget(seconds)

    def epoch(self) -> None:
        model, optimizer = self.model, self.optimizer
        for inputs, labels in self.pairs:
            loss = functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def measure(name: str, epochs: int, *, channels_last: bool) -> dict[str, object]:
    case = CASES[name]
    generator = torch.Generator().manual_seed(0)
    pairs = [
        (
            torch.randn(contract.BATCH_SIZE, *case.shape, generator=generator),
            torch.randint(contract.CLASSES, (contract.BATCH_SIZE,), generator=generator),
        )
        for _ in range(case.steps)
    ]
    batches = TimedBatches(pairs)
    model = build_model(name, case.shape, contract.CLASSES, case.options)
    settings = {"epochs": epochs, "schedule": "constant", "channels_last": channels_last}
    trainer = Trainer(model, batches, pairs[:1], functional.cross_entropy, "adamw", settings=settings)
    twin = copy.deepcopy(trainer.model)
    bare = BareLoop(twin, build_optimizer(twin, trainer.settings), pairs)
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(folder, hooks=Hooks(on_epoch=bare))
    return {
        "steps": case.steps,
        "danlu": batches.seconds,
        "saves": batches.save_seconds,
        "bare": bare.seconds,
    }


def main() -> None:
    parser = contract.parser(__doc__, reads_data=False)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--channels-last", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    import_module("danlu.training.trainer").Keeper = TimedKeeper
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        models={
            name: measure(name, arguments.epochs, channels_last=arguments.channels_last) for name in arguments.models
        },
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
