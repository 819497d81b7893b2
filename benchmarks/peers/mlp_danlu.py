"""danlu's own training, as `danlu train fashion-mnist model.name=mlp model.dropout=0 training.optimizer=adam`, with the
constant rate and the plain loss the competitors have.

The clock is this benchmark's, not danlu's: it runs from the first batch asked for until the loop asks for one more
after the last step, so it covers order, batches, steps and metrics, and no validation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import import_module

import contract

from danlu.base.machine import spin_briefly

spin_briefly()  # as the command does, before PyTorch is imported

import torch  # noqa: E402

import danlu  # noqa: E402
from danlu.data.batches import Batch, ImageBatches  # noqa: E402

seconds: list[float] = []


class TimedBatches(ImageBatches):
    def epoch(self, number: int) -> Iterator[Batch]:
        started = time.perf_counter()
        yield from super().epoch(number)
        seconds.append(time.perf_counter() - started)


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--split", required=True, help="JSON list for data.split")
    arguments = parser.parse_args()
    import_module("danlu.training.train").ImageBatches = TimedBatches
    settings = {
        "data.split": json.loads(arguments.split),
        "model.name": "mlp",
        "model.dropout": 0,
        "model.widths": list(contract.WIDTHS),
        "training.optimizer": "adam",
        "training.batch_size": contract.BATCH_SIZE,
        "training.learning_rate": contract.LEARNING_RATE,
        "training.epochs": arguments.epochs,
        "training.schedule": "constant",
        "training.label_smoothing": 0,
        "training.device": "cpu",
    }
    if arguments.threads:
        settings["training.threads"] = arguments.threads
    run = danlu.train(arguments.data, settings)
    history = run.history()
    assert len(seconds) == len(history) == arguments.epochs
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        seconds=seconds,
        images=run.status()["parts"]["train"],
        accuracy=history[-1]["train_accuracy"],
        threads=torch.get_num_threads(),
        told_by_danlu=[row["examples_per_second"] for row in history],
        seconds_with_validation=[row["seconds"] for row in history],
    )


if __name__ == "__main__":
    main()
