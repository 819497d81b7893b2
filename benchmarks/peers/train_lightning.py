"""Lightning on an in-memory TensorDataset.

`defaults`: the Trainer as it comes. `fast`: logger, checkpoints, progress bar and summary off. `tuned`: the Trainer's
`barebones=True`, fused Adam, whole batches from a BatchSampler and sums kept by hand instead of `self.log`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import contract
import lightning
import networks
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

OFF = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
TRAINER: dict[str, dict[str, Any]] = {"defaults": {}, "fast": OFF, "tuned": {"barebones": True}}


class Classifier(lightning.LightningModule):
    def __init__(self, network: str, shape: Sequence[int], *, is_tuned: bool) -> None:
        super().__init__()
        self.is_tuned = is_tuned
        self.model = networks.build(network, shape)

    def on_train_epoch_start(self) -> None:
        self.loss_sum, self.right = torch.zeros(()), torch.zeros((), dtype=torch.int64)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        inputs, labels = batch
        scores = self.model(inputs)
        loss = functional.cross_entropy(scores, labels)
        right = (scores.detach().argmax(1) == labels).sum()
        self.right += right
        if self.is_tuned:
            self.loss_sum += loss.detach() * len(labels)
        else:
            values = {"train_loss": loss, "train_accuracy": right / len(labels)}
            self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=contract.LEARNING_RATE, fused=self.is_tuned or None)


class Clock(lightning.Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def main() -> None:
    parser = contract.parser(__doc__)
    contract.add_network(parser)
    parser.add_argument("--trainer", choices=list(TRAINER), default="defaults")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with np.load(arguments.data) as data:
        pixels, labels = torch.from_numpy(data["pixels"]), torch.from_numpy(data["labels"])
    dataset = TensorDataset((pixels.float() / 255 - 0.5) / 0.5, labels)
    is_tuned = arguments.trainer == "tuned"
    if is_tuned:
        sampler = BatchSampler(RandomSampler(dataset), contract.BATCH_SIZE, drop_last=False)
        loader = DataLoader(dataset, sampler=sampler, batch_size=None)
    else:
        loader = DataLoader(dataset, batch_size=contract.BATCH_SIZE, shuffle=True)
    clock, model = Clock(), Classifier(arguments.network, pixels.shape[1:], is_tuned=is_tuned)
    trainer = lightning.Trainer(
        max_epochs=arguments.epochs,
        accelerator="cpu",
        callbacks=[clock],
        default_root_dir=Path.cwd(),
        **TRAINER[arguments.trainer],
    )
    trainer.fit(model, loader)
    contract.give_back(
        arguments,
        ("lightning", "torch", "numpy"),
        seconds=clock.seconds,
        images=len(dataset),
        accuracy=model.right.item() / len(dataset),
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
