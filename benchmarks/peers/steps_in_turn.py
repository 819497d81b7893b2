"""Steps of danlu's Trainer and of a bare loop in turn in one process: the same model, batches, optimizer and threads.

danlu's clock runs from a batch handed over until the next one is asked for: the step, its loss and accuracy, and the
saves. The bare loop then takes the same batch with a copy of the model; the rhythm of danlu's saves does not see the
time that takes. A machine that slows down for a while slows both.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

import contract

from danlu.base.machine import suit_process_to_training

suit_process_to_training()  # as the command does, before PyTorch is imported

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from danlu.data.batches import Batch  # noqa: E402
from danlu.models.build import build_model  # noqa: E402
from danlu.models.shapes import ImageShape  # noqa: E402
from danlu.training.keeper import Keeper  # noqa: E402
from danlu.training.optimizers import build_optimizer  # noqa: E402
from danlu.training.trainer import Trainer  # noqa: E402

WARM_UP_STEPS = 32
DIFFERENT_BATCHES = 32


@dataclass(frozen=True)
class Case:
    shape: ImageShape
    steps: int
    options: dict[str, object]
    channels_last: bool = False


CASES = {
    "digit_cnn": Case(ImageShape(1, 28, 28), 1000, {}),
    "digit_cnn, channels_last": Case(ImageShape(1, 28, 28), 1000, {}, channels_last=True),
    "vgg_cnn": Case(ImageShape(3, 32, 32), 300, {}),
    "mlp": Case(ImageShape(1, 28, 28), 20_000, {"dropout": 0}),
}


class TimedKeeper(Keeper):
    """`running`: the one of the training that runs. `save_seconds`: of all its saves between steps."""

    running: TimedKeeper
    save_seconds: float

    def begin(self, *, inexact: bool) -> dict[str, Tensor]:
        weights = super().begin(inexact=inexact)
        TimedKeeper.running, self.save_seconds = self, 0.0
        return weights

    def save(self) -> None:
        started = time.perf_counter()
        super().save()
        self.save_seconds = getattr(self, "save_seconds", 0.0) + time.perf_counter() - started

    def forget(self, seconds: float) -> None:
        """Time that has not passed for the rhythm of the saves."""
        assert self.checkpoints is not None
        self.checkpoints.cadence.saved_at += seconds


class BareLoop:
    """Forward, backward and update, without metrics, checkpoints or anything else."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model.train()
        self.optimizer = optimizer

    def step(self, batch: Batch) -> None:
        inputs, labels = batch
        loss = functional.cross_entropy(self.model(inputs), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class TimedBatches:
    """Hands danlu each batch, and then the bare loop; the first steps of both are not timed."""

    bare: BareLoop

    def __init__(self, pairs: list[Batch], steps: int) -> None:
        self.pairs = pairs
        self.steps = steps
        self.danlu_seconds: list[float] = []
        self.bare_seconds: list[float] = []
        self.save_seconds = 0.0

    def __len__(self) -> int:
        return WARM_UP_STEPS + self.steps

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        keeper = TimedKeeper.running
        for step in range(start, len(self)):
            batch = self.pairs[step % len(self.pairs)]
            if step == WARM_UP_STEPS:
                keeper.save_seconds = 0.0
            started = time.perf_counter()
            yield batch
            handed_back = time.perf_counter()
            self.bare.step(batch)
            ended = time.perf_counter()
            keeper.forget(ended - handed_back)
            if step >= WARM_UP_STEPS:
                self.danlu_seconds.append(handed_back - started)
                self.bare_seconds.append(ended - handed_back)
        self.save_seconds = keeper.save_seconds


def measure(name: str, share: float) -> dict[str, object]:
    case = CASES[name]
    generator = torch.Generator().manual_seed(0)
    pairs = [
        (
            torch.randn(contract.BATCH_SIZE, *case.shape, generator=generator),
            torch.randint(contract.CLASSES, (contract.BATCH_SIZE,), generator=generator),
        )
        for _ in range(DIFFERENT_BATCHES)
    ]
    batches = TimedBatches(pairs, round(case.steps * share))
    model = build_model(name.partition(",")[0], case.shape, contract.CLASSES, case.options)
    settings = {"epochs": 1, "schedule": "constant", "channels_last": case.channels_last}
    trainer = Trainer(model, batches, pairs[:1], functional.cross_entropy, "adamw", settings=settings)
    twin = copy.deepcopy(trainer.model)
    batches.bare = BareLoop(twin, build_optimizer(twin, trainer.settings))
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(folder)
    danlu, bare = batches.danlu_seconds, batches.bare_seconds
    return {
        "n": len(danlu),
        "danlu_ms": 1e3 * statistics.median(danlu),
        "bare_ms": 1e3 * statistics.median(bare),
        "ratio": statistics.median(ours / theirs for ours, theirs in zip(danlu, bare, strict=True)),
        "danlu_seconds": sum(danlu),
        "bare_seconds": sum(bare),
        "save_seconds": batches.save_seconds,
    }


def main() -> None:
    parser = contract.parser(__doc__, reads_data=False)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of steps")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    import_module("danlu.training.trainer").Keeper = TimedKeeper
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        models={name: measure(name, arguments.share) for name in arguments.models},
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
