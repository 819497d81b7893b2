"""One optimizer step: forward, loss and backward over the batches it sees, then clipping and the update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from danlu.base import log
from danlu.base.errors import DataError, MachineError, ModelError
from danlu.data.batches import Batch, rows_of
from danlu.training.losses import Loss
from danlu.training.precision import Precision
from danlu.training.processes import Processes

if TYPE_CHECKING:
    from danlu.training.watch import Watch

Answers = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Stepped:
    """`loss`: this process's share of the mean over all examples of the step. `answers`: (scores, labels) pairs.

    `gradient_norm`: over all parameters, before it was clipped; None where nothing is clipped.
    """

    loss: Tensor
    answers: Answers
    examples: int
    gradient_norm: Tensor | None = None


class NoGradient(ModelError):
    """The loss depends on no parameter that is trained."""

    def __init__(self, stepped: Stepped) -> None:
        super().__init__(
            "no parameter gets a gradient: the scores of the module do not depend on one that is trained",
            hint="look in `forward` for `detach()`, `no_grad()`, `.data` or numpy, and for frozen parameters",
        )
        self.stepped = stepped


class Step:
    """Takes a window of batches; the gradient is that of the mean over all their examples.

    When memory runs out, the step is done again with half as many examples at a time, and so are all steps after it:
    the effective batch stays what it was. `micro_rows` is that number of examples, None while all fit.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[Any], Tensor],
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        clip_norm: float | None,
        processes: Processes,
    ) -> None:
        self.model = model
        self.forward = forward
        self.loss = loss
        self.optimizer = optimizer
        self.precision = precision
        self.clip_norm = clip_norm
        self.processes = processes
        self.micro_rows: int | None = None
        self.watch: Watch | None = None
        on_processor = precision.device.type == "cpu"  # torch.manual_seed asks every kind of device, 10 µs a step
        self.set_seed = torch.default_generator.manual_seed if on_processor else torch.manual_seed

    def __call__(self, window: Sequence[Batch], seed: int) -> Stepped:
        """`seed` is that of dropout, the same for a step however often it is tried."""
        while True:
            self.set_seed(seed)
            try:
                stepped = self._gradients(window)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failure = str(error) or type(error).__name__
            except IndexError as error:
                labels = torch.cat([labels.reshape(-1) for _, labels in window])
                raise DataError(
                    f"the labels of a batch go from {labels.min().item()} to {labels.max().item()}, which the scores of"
                    f" the module do not fit: {error}",
                    hint="labels count from 0, and there is a score for each class",
                ) from error
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise ModelError(
                    "batch norm cannot train on a batch of one example, which the last batch of an epoch is",
                    hint="set another `training.batch_size`",
                ) from error
            self._halve(window, failure)  # outside the handler, which would keep the failed step's tensors alive
        if self.watch:
            self.watch.gradients(self.precision.scale)
        norm = self.precision.step(self.optimizer, self.model.parameters, self.clip_norm)
        self.optimizer.zero_grad(set_to_none=True)
        return stepped if norm is None else replace(stepped, gradient_norm=norm)

    def _gradients(self, window: Sequence[Batch]) -> Stepped:
        if len(window) == 1 and self.micro_rows is None and self.processes.count == 1:
            inputs, labels = window[0]
            with self.precision.forward():
                scores = self.forward(inputs)
                loss = self.loss(scores, labels)
            if not loss.requires_grad:
                raise NoGradient(Stepped(loss.detach(), [(scores.detach(), labels)], len(labels)))
            self._mark("forward")
            self.precision.backward(loss)
            self._mark("backward")
            return Stepped(loss.detach(), [(scores.detach(), labels)], len(labels))
        whole = torch.stack([self.loss.weight(labels) for _, labels in window]).sum()
        total, answers = torch.zeros_like(whole), []
        pieces = list(self._pieces(window))
        for number, (inputs, labels, counts, place) in enumerate(pieces):
            is_last = number + 1 == len(pieces)
            self.processes.place = place
            with nullcontext() if is_last else self.processes.without_exchange(self.forward):
                with self.precision.forward():
                    scores = self.forward(inputs)
                    loss = self.loss(scores, labels) * (self.loss.weight(labels) * counts / whole)
                self._mark("forward")
                self.precision.backward(loss * self.processes.count)  # gradients are averaged over the processes
                self._mark("backward")
            total = total + loss.detach()
            if counts:
                answers.append((scores.detach(), labels))
        return Stepped(total, answers, sum(len(labels) for _, labels in window))

    def _mark(self, phase: str) -> None:
        if self.watch:
            self.watch.mark(phase)

    def _pieces(self, window: Sequence[Batch]) -> Iterator[tuple[Any, Tensor, int, tuple[int, int]]]:
        """(inputs, labels, 1, (rows of the whole batch, first of these)) of this process, `micro_rows` at a time.

        A process without rows of a batch gets one row that counts 0: it has to take part in what all do together.
        """
        for inputs, labels in window:
            rows = len(labels)
            start, stop = self.processes.rows(rows)
            if start == stop:
                yield rows_of(inputs, 0, 1), labels[:1], 0, (rows, 0)
                continue
            size = self.micro_rows or stop - start
            for first in range(start, stop, size):
                last = min(first + size, stop)
                yield rows_of(inputs, first, last), labels[first:last], 1, (rows, first)

    def _halve(self, window: Sequence[Batch], failure: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        largest = max(len(labels) for _, labels in window)
        before = min(self.micro_rows or largest, largest)
        told = f"out of memory with {before:,} examples at a time"
        if before == 1:
            raise MachineError(
                f"{told}: {failure.splitlines()[0]}",
                hint="choose a smaller model or `data.image_size`, or set `training.gradient_checkpointing=true`",
            )
        if self.processes.count > 1:
            raise MachineError(
                f"{told} in process {self.processes.rank}",
                hint="set a smaller `training.batch_size` and as much more `training.accumulation_steps`",
            )
        self.micro_rows = -(-before // 2)
        norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules())
        log.warn(
            f"{told}; from here on {self.micro_rows:,} at a time. A step still sees {largest:,} examples"
            + (f"; batch norm sees {self.micro_rows:,}" if norms else "")
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in the processor's own memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "can't allocate memory" in text or "out of memory" in text or "bad_alloc" in text
