"""A small training in float64 that torchrun starts with any number of processes; the first one writes the result."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

from danlu.training.losses import balanced_weights, build_loss
from danlu.training.trainer import Trainer, validate


def main(folder: Path, what: str) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    sizes = [13, 8, 16, 3, 1, 9] if what == "odd" else [16] * 6  # odd: fewer rows than processes
    pairs = []
    for size in sizes:
        images = torch.randn(size, 2, 6, 6, generator=generator)
        labels = torch.randint(0, 3, (size,), generator=generator)
        pairs.append((images + labels[:, None, None, None], labels))
    norm = nn.Identity() if what == "odd" else nn.BatchNorm2d(4)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Dropout2d(0.3), nn.Flatten(), nn.Dropout(0.4), nn.Linear(64, 3)
    ).to(memory_format=torch.channels_last)
    settings = {
        "epochs": 4,
        "learning_rate": 0.05,
        "optimizer": "sgd",
        "ema": 0.8,
        "clip_norm": 0.5,
        "accumulation_steps": 4 if what == "accumulation" else 1,
    }
    trainer = Trainer(model, pairs, pairs[:3], settings=settings)
    if what == "balanced":
        trainer.loss = build_loss(
            trainer.settings, balanced_weights(torch.cat([labels for _, labels in pairs]), 3).double()
        )
    outcome = trainer.fit(folder / "checkpoints", every_steps=2)
    result = {
        "processes": trainer.processes.count,
        "history": [
            [r.train_loss, r.train_accuracy, r.validation_loss, r.validation_accuracy] for r in outcome.history
        ],
        "weights": torch.cat([value.reshape(-1).double() for value in outcome.model.state_dict().values()]).tolist(),
        "alone": validate(outcome.model, pairs),
    }
    (folder / f"result-{trainer.processes.rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
