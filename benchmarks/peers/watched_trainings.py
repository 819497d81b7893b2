"""The same training with and without the recorder's looks from inside, in turn in one process."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import contract

from danlu.base.machine import suit_process_to_training

suit_process_to_training()  # as the command does, before PyTorch is imported

import torch  # noqa: E402

from danlu.models.build import build_model  # noqa: E402
from danlu.models.shapes import ExampleShape, ImageShape, TextShape  # noqa: E402
from danlu.training.trainer import Trainer  # noqa: E402
from danlu.training.watch import Watch  # noqa: E402

EPOCHS = 4


@dataclass(frozen=True)
class Case:
    shape: ExampleShape
    steps: int


CASES = {
    "mlp": Case(ImageShape(1, 28, 28), 600),
    "digit_cnn": Case(ImageShape(1, 28, 28), 30),
    "vgg_cnn": Case(ImageShape(3, 32, 32), 12),
    "ngrams": Case(TextShape(5_000, 60), 200),
    "textcnn": Case(TextShape(5_000, 60), 40),
    "bilstm": Case(TextShape(5_000, 60), 12),
}


class Counted(Watch):
    """`seconds_spent` and `steps_seen` of the last training."""

    seconds_spent = 0.0
    steps_seen = 0

    def take(self) -> list[dict[str, Any]]:
        rows = super().take()
        Counted.seconds_spent, Counted.steps_seen = self.spent, self.looks
        return rows


def measure(name: str, pairs_of_trainings: int) -> dict[str, object]:
    case = CASES[name]
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(case.steps):
        labels = torch.randint(contract.CLASSES, (contract.BATCH_SIZE,), generator=generator)
        if isinstance(case.shape, ImageShape):
            inputs = torch.randn(contract.BATCH_SIZE, *case.shape, generator=generator)
        else:
            size = (contract.BATCH_SIZE, case.shape.max_length)
            inputs = torch.randint(1, case.shape.vocabulary_size, size, generator=generator)
        batches.append((inputs, labels))
    model = build_model(name, case.shape, contract.CLASSES)
    module = import_module("danlu.training.trainer")
    seconds: dict[str, list[float]] = {"watched": [], "plain": []}
    told, looks = [], []
    for turn in range(pairs_of_trainings + 1):
        for way in ("watched", "plain") if turn % 2 else ("plain", "watched"):
            module.Watch = Counted if way == "watched" else lambda *_, **__: None  # type: ignore[attr-defined]
            settings = {"epochs": EPOCHS, "schedule": "constant"}
            trainer = Trainer(copy.deepcopy(model), batches, batches[:1], "cross_entropy", "adamw", settings=settings)
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                trainer.fit(folder)
                taken = time.perf_counter() - started
            if turn:  # the first turn warms up
                seconds[way].append(taken)
                if way == "watched":
                    told.append(Counted.seconds_spent / taken)
                    looks.append(Counted.steps_seen)
    return {
        "n": pairs_of_trainings,
        "steps": EPOCHS * case.steps,
        "milliseconds": 1e3 * statistics.median(seconds["plain"]) / (EPOCHS * case.steps),
        "looks": statistics.median(looks),
        "share_told": statistics.median(told),
        "ratios": [a / b for a, b in zip(seconds["watched"], seconds["plain"], strict=True)],
    }


def main() -> None:
    parser = contract.parser(__doc__, reads_data=False)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--trainings", type=int, default=8, help="of each way, in turn")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        models={name: measure(name, arguments.trainings) for name in arguments.models},
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
