"""The one-step model test: a step of training on copies, looked at from inside."""

from __future__ import annotations

from typing import Any

from danlu.base.errors import DataError
from danlu.data.batches import stream_seed
from danlu.training.precision import Precision
from danlu.training.processes import Processes
from danlu.training.step import NoGradient, Step
from danlu.training.trainer import Trainer, set_learning_rate
from danlu.training.untouched import copied, same_kind, untouched_generators
from danlu.training.watch import Watch


def one_step(trainer: Trainer) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the step told, its row of layers), as the first step of a training tells them; nothing is changed.

    The step is made at the full learning rate, whatever the schedule begins with. Raises `DataError` for a loader
    without batches, `ModelError` for a module that cannot be copied.

    >>> import torch
    >>> from torch import nn
    >>> pairs = [(torch.randn(8, 5), torch.arange(8) % 2)]
    >>> told, row = one_step(Trainer(nn.Linear(5, 2), pairs, pairs))
    >>> told["parameters"]["total"], len(row["layers"])
    (12, 1)
    """
    settings = trainer.settings
    with untouched_generators(getattr(trainer.train_batches, "loader", None)):
        batch = next(iter(trainer.train_batches.epoch(0)), None)
        if batch is None:
            raise DataError("the training loader gives no batch", hint="look at its length and its `drop_last`")
        model = copied(trainer.model).train()
        optimizer = same_kind(trainer.optimizer, trainer.model)(model)
        precision = Precision(settings.precision, trainer.device)
        clip_norm = None if settings.clip_norm is None else float(settings.clip_norm)
        step = Step(model, model, trainer.loss, optimizer, precision, clip_norm, Processes())
        watch = step.watch = Watch(model, optimizer, 1)
        watch.begin(0, 0)
        rate = set_learning_rate(optimizer, 1.0)
        try:
            stepped = step([batch], stream_seed(settings.seed, 0, "dropout"))
        except NoGradient as error:  # is told with the rest: every parameter is without one
            stepped = error.stepped
        watch.end(stepped, [batch], rate)
    return watch.first or {}, watch.take()[0]
