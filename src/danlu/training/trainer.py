"""The loop, to be read from top to bottom. What a step does is in `step.py`, what is saved in `state.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from danlu.base.config import read_config
from danlu.base.errors import DanluError, DataError, MachineError
from danlu.base.machine import processor_name
from danlu.base.settings import TrainingSettings
from danlu.data.batches import Batch, Batches, as_batches, stream_seed
from danlu.training.checkpoints import Checkpoints
from danlu.training.ema import RunningMean
from danlu.training.first_step import count_bad, tell_first_step
from danlu.training.interrupt import Interrupted, StopRequest
from danlu.training.keeper import Hooks, Keeper, NotANumber, require_numbers
from danlu.training.losses import Loss, LossFunction, build_loss
from danlu.training.memory import channels_last_gradients, checkpointed
from danlu.training.optimizers import build_optimizer
from danlu.training.precision import Precision, widened
from danlu.training.processes import join_processes
from danlu.training.recorder import STEPS_AT_ONCE, EpochRow, Recorder, is_classification
from danlu.training.schedules import build_schedule
from danlu.training.state import Cursor, TrainingState, device_fact, parameters_fact
from danlu.training.step import Step, is_out_of_memory
from danlu.training.stopping import Stopping
from danlu.training.watch import Watch

PLAIN_DEFAULTS: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": "one_cycle",
    "warmup": 0.1,
    "label_smoothing": 0.0,
    "clip_norm": None,
    "precision": "fp32",
    "channels_last": False,
    "compile": False,
}


@dataclass(frozen=True)
class Outcome:
    """What training ended with. `model` carries the best weights; `stop_reason` says why it ended."""

    model: nn.Module
    history: tuple[EpochRow, ...]
    best: EpochRow
    stop_reason: str


class BadInputs(DataError):
    """The inputs of a batch hold NaN or infinite numbers."""

    def __init__(self, epoch: int, batch: int, bad: int, examples: int) -> None:
        super().__init__(
            f"batch {batch + 1:,} of epoch {epoch + 1} holds NaN or infinite numbers in {bad:,} of its {examples:,}"
            " examples, so the loss is no longer a number",
            hint="mend or leave out these examples; the last checkpoint is from before",
        )
        self.facts = {"bad_examples": bad, "examples": examples, "epoch": epoch, "batch": batch}


class Trainer:
    """Trains any module on any batches of (inputs, labels), and goes on after a crash as if there had been none.

    `train_batches` and `validation_batches`: danlu's batches, a `DataLoader`, or anything with a length that gives
    pairs again and again. `loss`: `(scores, labels) -> mean over the batch`, or a name of `danlu list losses`;
    `optimizer`: an optimizer over the module's parameters, or a name. `settings`: the words of section `training`,
    such as `{"epochs": 3, "learning_rate": 0.01}`. `device`: where to train; the module's own when left out.

    Started by torchrun, every process gives the same batches and computes its rows of each.

    >>> x, y = torch.randn(64, 5), torch.arange(64) % 2
    >>> pairs = [(x[:32], y[:32]), (x[32:], y[32:])]
    >>> trainer = Trainer(nn.Linear(5, 2), pairs, pairs, nn.CrossEntropyLoss(), settings={"epochs": 2})
    >>> len(trainer.fit().history)
    2
    """

    def __init__(
        self,
        model: nn.Module,
        train_batches: Batches | Iterable[Any],
        validation_batches: Batches | Iterable[Any],
        loss: Loss | LossFunction | str | None = None,
        optimizer: torch.optim.Optimizer | str | None = None,
        *,
        settings: TrainingSettings | Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.settings = _concrete(settings, loss, optimizer)
        self.device = next(model.parameters()).device if device is None else torch.device(device)
        self.model = model.to(self.device)
        if self.settings.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.processes = join_processes(self.device)
        seed = self.settings.seed
        self.train_batches = as_batches(train_batches, self.device, seed)
        self.validation_batches = as_batches(validation_batches, self.device, seed)
        self.loss = _loss_of(loss, self.settings)
        # A loss of the user's own is validated too; the named ones are compared by cross entropy.
        self.validation_loss = self.loss.function if callable(loss) and not isinstance(loss, Loss) else None
        self.has_own_optimizer = isinstance(optimizer, torch.optim.Optimizer)
        if isinstance(optimizer, torch.optim.Optimizer):
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
            self.optimizer = optimizer
        else:
            self.optimizer = build_optimizer(model, self.settings)

    def fit(
        self,
        folder: str | Path | None = None,
        *,
        every_steps: int | None = None,
        inexact: bool = False,
        unit: str = "examples",
        hooks: Hooks | None = None,
    ) -> Outcome:
        """Train to the end and give the module back with its best weights.

        With a `folder`, checkpoints are kept there, every `every_steps` steps or as often as costs at most 1 % of the
        time; one that is there is gone on from, at the very step, after a check that the result will be the same
        bits. What differs is told and refused, unless `inexact`. A first SIGINT or SIGTERM saves and raises
        `Interrupted`. Raises `ModelError` when the loss is no longer a number, `DataError` when a batch cannot be
        read, `MachineError` when memory or disk are too small, `ConfigError` when a resume would be inexact.
        """
        settings, hooks = self.settings, hooks or Hooks()
        epochs, accumulation = int(settings.epochs), settings.accumulation_steps
        steps_per_epoch = -(-len(self.train_batches) // accumulation)
        precision = Precision(settings.precision, self.device)
        with ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            stack.enter_context(only_deterministic_kernels(settings.deterministic))
            stack.enter_context(self.processes.shared_layers(self.model))
            if settings.channels_last:
                stack.enter_context(channels_last_gradients(self.model))
            recorder = stack.enter_context(Recorder(epochs, steps_per_epoch, unit, self.processes))
            state = TrainingState(
                model=self.model,
                step=self._step(precision),
                schedule=build_schedule(settings, steps_per_epoch * epochs, steps_per_epoch),
                stopping=Stopping(settings),
                mean=RunningMean(self.model, settings.ema) if settings.ema else None,
                recorder=recorder,
                history=[],
                cursor=Cursor(),
            )
            keeper = None
            if folder is not None:
                checkpoints = Checkpoints(Path(folder), every_steps) if self.processes.rank == 0 else None
                keeper = Keeper(state, checkpoints, self.processes, stop, hooks, self.facts(), every_steps)
            best_weights = keeper.begin(inexact=inexact) if keeper else {}
            if self.processes.rank == 0:
                state.step.watch = Watch(self.model, self.optimizer, steps_per_epoch, hears=not settings.compile)
            watch = state.step.watch
            stack.enter_context(self._causes_told(state, keeper))
            cursor, stopping, history = state.cursor, state.stopping, state.history
            stop_reason = stopping.reason()

            for epoch in range(cursor.epoch, epochs if stop_reason is None else 0):
                self.model.train()
                dropout_seed = stream_seed(settings.seed, epoch, "dropout")
                if watch:
                    watch.wait()
                for window in self._windows(epoch, cursor.batch, keeper):
                    if watch:
                        watch.begin(cursor.step, epoch)
                    learning_rate = set_learning_rate(self.optimizer, state.schedule(cursor.step))
                    stepped = state.step(window, dropout_seed + cursor.step)  # forward, loss, backward, update
                    if state.mean is not None:
                        state.mean.update()
                    if watch:
                        watch.end(stepped, window, learning_rate)
                        if watch.first is not None:
                            tell_first_step(watch.first)
                            hooks.on_first_step(watch.first)
                            watch.first = None
                    recorder.add_step(stepped, learning_rate)
                    cursor.step += 1
                    cursor.batch += len(window)
                    if keeper:
                        keeper.after_step(window[-1])
                    elif stop.signal:
                        raise Interrupted(stop.signal)
                    if cursor.step % STEPS_AT_ONCE == 0 and self.device.type == "cpu":
                        recorder.read()  # a GPU would have to wait for this
                        require_numbers(state)
                    if watch:
                        watch.wait()

                recorder.read()
                require_numbers(state)
                row = self._epoch_row(state, stop, keeper)
                row = replace(row, is_best=stopping.is_best(row))
                history.append(row)
                if row.is_best:
                    best_weights = {name: value.detach().clone() for name, value in state.weights().items()}
                state.schedule.observe(row.validation_loss)
                recorder.close_epoch(row)
                if keeper:
                    keeper.tell_epoch(row)
                elif watch:
                    hooks.on_epoch(row)
                    hooks.on_watched(watch.take())
                stop_reason = stopping.reason()
                is_last = stop_reason is not None or epoch + 1 == epochs
                cursor.epoch, cursor.batch = epoch + 1, 0
                recorder.open_epoch(epoch + 1)
                if keeper:
                    keeper.after_epoch(best_weights if row.is_best else None, row, is_last=is_last)
                if is_last:
                    break
        self.model.load_state_dict(best_weights)
        best = next(row for row in reversed(history) if row.is_best)
        return Outcome(self.model, tuple(history), best, stop_reason or f"all {epochs} epochs done")

    @contextmanager
    def _causes_told(self, state: TrainingState, keeper: Keeper | None) -> Iterator[None]:
        """When the loss is no longer a number, say whether it came in with the data, and tell what led to it."""
        try:
            yield
        except NotANumber as error:
            if keeper:
                keeper.tell_rest()
            accumulation, epoch = self.settings.accumulation_steps, state.cursor.epoch
            first = error.place * accumulation
            window = list(islice(self._batches(epoch, first, None), min(1, first), min(1, first) + accumulation))
            bad = [count_bad(inputs) for inputs, _ in window]
            if not any(bad):
                raise
            place = next(number for number, count in enumerate(bad) if count)
            raise BadInputs(epoch, first + place, bad[place], len(window[place][1])) from error

    def facts(self) -> dict[str, Any]:
        """What must be the same for a resumed training to give the same bits."""
        settings = self.settings.model_dump(exclude={"device", "threads", "tensorboard"})
        return {
            "torch": torch.__version__,
            "processor": processor_name(),
            "device": device_fact(self.device),
            "training.threads": torch.get_num_threads(),
            "processes": self.processes.count,
            "model": parameters_fact(self.model),
            "optimizer": type(self.optimizer).__name__,
            "batches of an epoch": len(self.train_batches),
            **{f"training.{name}": value for name, value in settings.items()},
        }

    def _step(self, precision: Precision) -> Step:
        forward: Callable[[Any], Tensor] = self.model
        if self.settings.gradient_checkpointing:
            forward = checkpointed(self.model)
        if self.settings.compile:
            forward = torch.compile(forward)
        forward = self.processes.wrap(self.model, forward)
        clip_norm = None if self.settings.clip_norm is None else float(self.settings.clip_norm)
        return Step(self.model, forward, self.loss, self.optimizer, precision, clip_norm, self.processes)

    def _windows(self, epoch: int, start: int, keeper: Keeper | None) -> Iterator[list[Batch]]:
        """The batches of an epoch from `start` on, as many together as a step sees."""
        window: list[Batch] = []
        source = self._batches(epoch, start, keeper)
        size = self.settings.accumulation_steps
        for batch in source:
            window.append(batch)
            if len(window) == size:
                yield window
                window = []
        if window:
            yield window

    def _batches(self, epoch: int, start: int, keeper: Keeper | None) -> Iterator[Batch]:
        """The batches from `start` on; the one before it is looked at, to see that they come as they did."""
        done = start
        try:
            batches = iter(self.train_batches.epoch(epoch, max(0, start - 1)))
            if start and keeper:
                keeper.require_same_batch(next(batches, None), epoch, start - 1)
            for batch in batches:
                yield batch
                done += 1
        except DanluError:
            raise
        except Exception as error:
            what = f"batch {done + 1:,} of epoch {epoch + 1}"
            if is_out_of_memory(error):
                raise MachineError(f"out of memory while reading {what}: {error}") from error
            raise DataError(
                f"{what} cannot be read: {type(error).__name__}: {error}",
                hint="the last checkpoint is intact; mend the data set and go on",
            ) from error

    def _epoch_row(self, state: TrainingState, stop: StopRequest, keeper: Keeper | None) -> EpochRow:
        """The epoch's numbers, with those of the validation of the weights that would be kept."""
        recorder = state.recorder
        train_loss, train_accuracy = recorder.train_means()
        train_seconds = recorder.seconds()
        own = None
        if state.mean is not None:
            own = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.model.load_state_dict(state.mean.mean)
        interrupted = None
        try:
            batches = self._own_validation(stop)
            loss, accuracy = validate(self.model, batches, self.validation_loss, self.processes.add_up)
        except Interrupted as error:
            interrupted = error
        finally:
            if own is not None:
                self.model.load_state_dict(own)
        if interrupted is not None:
            if keeper:
                keeper.save()  # before validation: it is done anew
            raise interrupted
        return EpochRow(
            epoch=state.cursor.epoch,
            step=state.cursor.step,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=loss,
            validation_accuracy=accuracy,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            seconds=recorder.seconds(),
            examples_per_second=(sum(recorder.examples) - recorder.examples_before)
            / max(1e-9, train_seconds - recorder.seconds_before),
        )

    def _own_validation(self, stop: StopRequest) -> Iterator[Batch]:
        """This process's share of the validation batches; alone, a signal ends it."""
        for place, batch in enumerate(self.validation_batches.epoch(0)):
            if stop.signal and self.processes.count == 1:
                raise Interrupted(stop.signal)
            if place % self.processes.count == self.processes.rank:
                yield batch


@torch.inference_mode()
def validate(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_function: LossFunction | None = None,
    add_up: Callable[[Tensor], Tensor] = lambda values: values,
) -> tuple[float, float | None]:
    """(mean loss, accuracy) over all examples, without dropout; cross entropy unless another loss is given.

    The accuracy is None where answers are not scores of classes. `add_up` sums over several processes.
    """
    model.eval()
    device = next(model.parameters()).device
    kind = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    sums = torch.zeros(4, dtype=kind, device=device)  # loss, right, examples, examples without classes
    for inputs, labels in batches:
        scores = widened(model(inputs))
        loss = (loss_function or functional.cross_entropy)(scores, labels)
        if is_classification(scores, labels):
            right, others = (scores.argmax(1) == labels).sum(), 0
        else:
            right, others = torch.zeros((), device=device), len(labels)
        counts = torch.tensor([len(labels), others], dtype=kind, device=device)
        sums += torch.cat([torch.stack([loss.to(kind) * len(labels), right.to(kind)]), counts])
    loss_sum, right_sum, examples, unclassified = add_up(sums).tolist()
    return loss_sum / max(1, examples), None if unclassified else right_sum / max(1, examples)


@contextmanager
def only_deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Inside the block PyTorch uses no kernel whose sums depend on the moment; it raises where it has no other."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to its first rate times `factor`; returns that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    rate: float = optimizer.param_groups[0]["lr"]
    return rate


def _loss_of(loss: Loss | LossFunction | str | None, settings: TrainingSettings) -> Loss:
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return Loss(loss)
    return build_loss(settings)


def _concrete(settings: TrainingSettings | Mapping[str, Any] | None, loss: Any, optimizer: Any) -> TrainingSettings:
    """Settings without `auto`: plain defaults for whatever is left open.

    An optimizer that is given keeps its own rate all along, unless a schedule is named.
    """
    if not isinstance(settings, TrainingSettings):
        given = dict(settings or {})
        given |= {name: value for name, value in (("loss", loss), ("optimizer", optimizer)) if isinstance(value, str)}
        settings = read_config(settings={"training": given}).settings.training
    open_ = {name: value for name, value in PLAIN_DEFAULTS.items() if getattr(settings, name) == "auto"}
    if "schedule" in open_ and isinstance(optimizer, torch.optim.Optimizer):
        open_["schedule"] = "constant"
    return settings.model_copy(update=open_)
