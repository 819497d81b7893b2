"""The verb `train_own`: a module and batches of the user's own → a run folder like those of `train`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Sized
from datetime import datetime
from typing import Any

import torch

from danlu.base.config import Config, read_config
from danlu.base.errors import ConfigError, ModelError
from danlu.base.files import write_text
from danlu.base.machine import environment
from danlu.base.runs import OWN, Run, create_run, runs_folder
from danlu.data.batches import Batch
from danlu.training.calibrate import Asked, note_answers
from danlu.training.precision import widened
from danlu.training.recorder import is_classification
from danlu.training.train import keep_state, run_hooks
from danlu.training.trainer import Outcome, Trainer

UNFINISHED = ("interrupted", "crashed", "failed")


def train_own(
    trainer: Trainer,
    name: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    data: str = "own batches",
    inexact: bool = False,
) -> Run:
    """Train a module of your own and return its run folder, which `danlu runs` and `danlu report` read.

    The folder keeps state, settings, history, steps, checkpoints and a record, and of a classifier the temperature and
    the answers of the best weights to the validation batches. Those weights are in the trainer's module afterwards.
    Called again with the `name` of a run that was interrupted or failed, it goes on from the last checkpoint, bit for
    bit unless `inexact`. `classes`: their names in the order of the labels; numbers when left out. `data`: what the
    batches are, for whoever reads the run.

    Raises `ConfigError` when the name is taken or the names of the classes do not fit, and what `Trainer.fit` raises.

    >>> x, y = torch.randn(64, 5), torch.arange(64) % 2
    >>> pairs = [(x[:32], y[:32]), (x[32:], y[32:])]
    >>> trainer = Trainer(torch.nn.Linear(5, 2), pairs, pairs, settings={"epochs": 2})
    >>> run = train_own(trainer, "mine", classes=["even", "odd"])     # doctest: +SKIP
    """
    if trainer.processes.count > 1:
        raise ConfigError(
            f"a run folder for a module of your own is written by one process, here are {trainer.processes.count}",
            hint="start it without torchrun, or call `trainer.fit(FOLDER)`, which trains with several",
        )
    earlier = Run(runs_folder() / name) if name else None
    if earlier and earlier.status_file.exists() and earlier.is_own() and earlier.state() in UNFINISHED:
        with earlier.hold():
            return _train_in(earlier, trainer, classes, inexact=inexact)
    run = create_run(name, f"{OWN}-{type(trainer.model).__name__}")
    with run.hold():
        _write_start(run, trainer, data)
        return _train_in(run, trainer, classes, inexact=inexact)


def _train_in(run: Run, trainer: Trainer, classes: Sequence[str] | None, *, inexact: bool) -> Run:
    config = read_config(run.config_file)

    def train() -> Outcome:
        every_steps = config.settings.checkpoint.every_steps
        with run_hooks(run, config) as hooks:
            outcome = trainer.fit(
                run.checkpoints_folder,
                every_steps=None if every_steps == "auto" else int(every_steps),
                inexact=inexact,
                hooks=hooks,
            )
        _note_answers(run, trainer, classes)
        return outcome

    keep_state(run, train)
    return run


def _write_start(run: Run, trainer: Trainer, data: str) -> None:
    """Everything that is known before the first step, so that a failed run has a record too."""
    sources = {"train": trainer.train_batches, "validation": trainer.validation_batches}
    examples = {part: _examples_of(getattr(source, "loader", source)) for part, source in sources.items()}
    run.update(
        state="prepared",
        process=os.getpid(),
        data=data,
        started=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        kind=OWN,
        model=type(trainer.model).__name__,
        parts={part: count for part, count in examples.items() if count is not None},
        batches={part: len(source) for part, source in sources.items()},
        notes=[],
        environment=environment(),
    )
    write_text(run.config_file, _config_of(trainer).to_yaml(only="training"))


def _examples_of(source: Any) -> int | None:
    """How many examples batches hold, where it is known without reading them."""
    if isinstance(source, (list, tuple)):
        return sum(len(labels) for _, labels in source)
    for name in ("dataset", "part", "labels"):  # a DataLoader's, and those of danlu's batches
        held = getattr(source, name, None)
        if isinstance(held, Sized):
            return len(held)
    return None


def _config_of(trainer: Trainer) -> Config:
    """What the trainer goes by. Of an optimizer or a loss of the user's own, what can be told of it."""
    told: dict[str, tuple[Any, str]] = {
        name: (value, "trainer") for name, value in trainer.settings.model_dump(exclude_defaults=True).items()
    }
    batch_size = getattr(getattr(trainer.train_batches, "loader", trainer.train_batches), "batch_size", None)
    told["batch_size"] = (batch_size or "auto", "the train batches")
    told |= {"device": (trainer.device.type, "trainer"), "threads": (torch.get_num_threads(), "trainer")}
    if trainer.has_own_optimizer:
        group = trainer.optimizer.param_groups[0]
        own = {"learning_rate": group["initial_lr"], "weight_decay": group.get("weight_decay", 0)}
        own |= {name: group[name] for name in ("momentum", "nesterov") if name in group}
        own["optimizer"] = type(trainer.optimizer).__name__.lower()
        told |= {name: (value, "own optimizer") for name, value in own.items()}
    if trainer.validation_loss is not None:
        loss = trainer.validation_loss
        told["loss"] = (getattr(loss, "__name__", type(loss).__name__), "own loss")
    config = read_config(settings={"training": {name: value for name, (value, _) in told.items()}})
    return Config(config.settings, {f"training.{name}": origin for name, (_, origin) in told.items()})


def _note_answers(run: Run, trainer: Trainer, classes: Sequence[str] | None) -> None:
    """The answers of the best weights to the validation batches, where they are scores of classes."""
    found = list(_ask(trainer))
    if not found or not all(is_classification(scores, labels) for scores, labels in found):
        return
    scores = torch.cat([scores for scores, _ in found])
    labels = torch.cat([labels for _, labels in found])
    count = scores.shape[1]
    if classes is not None and len(set(classes)) != count:
        raise ConfigError(
            f"`classes` names {len(set(classes))} different classes, the module has scores of {count}",
            hint=f"name {count}, in the order of the labels, and call again with the name {run.name!r}",
        )
    bad = (~scores.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        raise ModelError(
            f"the scores of {len(bad):,} of {len(scores):,} validation examples hold NaN or infinity,"
            f" first: `{bad[0]}`",
            hint="look at the inputs of these examples; keys count from 0 in the order of the batches",
        )
    names = tuple(classes or map(str, range(count)))
    keys = [str(place) for place in range(len(labels))]
    note_answers(run, Asked(scores.double().softmax(1).numpy(), labels.numpy(), names, keys))


@torch.inference_mode()
def _ask(trainer: Trainer) -> Iterator[Batch]:
    """(scores, labels) of each validation batch, in main memory."""
    trainer.model.eval()
    for inputs, labels in trainer.validation_batches.epoch(0):
        yield widened(trainer.model(inputs)).cpu(), labels.cpu()
