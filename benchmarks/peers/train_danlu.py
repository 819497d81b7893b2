"""danlu's own training, as `danlu train DATA model.name=NETWORK training.optimizer=adam` (`mlp` without dropout), with
the constant rate and the plain loss the competitors have, and no augmentation.

The clock is this benchmark's, not danlu's: it runs from the first batch asked for until the loop asks for one more
after the last step, so it covers order, batches, steps and metrics, and no validation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import import_module

import contract

from danlu.base.machine import suit_process_to_training

suit_process_to_training()  # as the command does, before PyTorch is imported

import torch  # noqa: E402

import danlu  # noqa: E402
from danlu.base.config import read_config  # noqa: E402
from danlu.data.batches import Batch, ImageBatches  # noqa: E402

seconds: list[float] = []
OPTIONS = {"mlp": {"model.dropout": 0, "model.widths": list(contract.WIDTHS)}, "digit_cnn": {}}
MEASURED = ("threads", "channels_last", "precision", "compile")
training = import_module("danlu.training.train")


class TimedBatches(ImageBatches):
    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        started = time.perf_counter()
        yield from super().epoch(number, start)
        seconds.append(time.perf_counter() - started)


def choose_as_for(steps: int) -> None:
    """Measure as before a run of so many steps: what a run can afford to try depends on its length."""
    choose = training.choose_by_measuring
    training.choose_by_measuring = lambda config, module, model, _: choose(config, module, model, steps)


def main() -> None:
    parser = contract.parser(__doc__)
    contract.add_network(parser)
    parser.add_argument("--split", required=True, help="JSON list for data.split")
    parser.add_argument("--precision", default="auto", help="training.precision")
    parser.add_argument("--as-for-steps", type=int, required=True, help="measure as before a run of so many steps")
    arguments = parser.parse_args()
    training.ImageBatches = TimedBatches
    choose_as_for(arguments.as_for_steps)
    settings = {
        "data.split": json.loads(arguments.split),
        "augmentation.crop": 0,
        "augmentation.flip": False,
        "model.name": arguments.network,
        **OPTIONS[arguments.network],
        "training.optimizer": "adam",
        "training.batch_size": contract.BATCH_SIZE,
        "training.learning_rate": contract.LEARNING_RATE,
        "training.epochs": arguments.epochs,
        "training.schedule": "constant",
        "training.label_smoothing": 0,
        "training.precision": arguments.precision,
        "training.device": "cpu",
    }
    if arguments.threads:
        settings["training.threads"] = arguments.threads
    run = danlu.train(arguments.data, settings)
    history = run.history()
    assert len(seconds) == len(history) == arguments.epochs
    used = read_config(run.config_file).settings.training
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        seconds=seconds,
        images=run.status()["parts"]["train"],
        accuracy=history[-1]["train_accuracy"],
        threads=torch.get_num_threads(),
        chosen={name: getattr(used, name) for name in MEASURED},
        told_by_danlu=[row["examples_per_second"] for row in history],
        seconds_with_validation=[row["seconds"] for row in history],
    )


if __name__ == "__main__":
    main()
