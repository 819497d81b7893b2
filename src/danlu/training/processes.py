"""Several processes that train as one: the same batches, split by rows; the same weights; the first one writes.

Started by torchrun, which tells each process its number through the environment. What layers draw or sum over a
batch is made the same as in one process: dropout draws for the whole batch and takes its rows, batch norm sums over
all processes. So the number of processes changes results only by rounding.
"""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from danlu.base.errors import ConfigError, MachineError
from danlu.training.precision import widened


class Processes:
    """The processes of one training, seen from one of them. `rank` 0 writes; alone, every method is a no-op."""

    rank = 0
    count = 1
    local_count = 1  # processes on this machine
    place = (0, 0)  # (rows of the whole batch, first of this process's), for layers that draw for the whole batch

    def rows(self, size: int) -> tuple[int, int]:
        """(first, behind the last) row of this process in a batch of `size`.

        >>> Processes().rows(64)
        (0, 64)
        """
        return size * self.rank // self.count, size * (self.rank + 1) // self.count

    def add_up(self, values: Tensor) -> Tensor:
        """`values` summed over all processes."""
        return values

    def highest(self, values: list[float]) -> list[float]:
        """Each value's highest over all processes."""
        return values

    def share(self, value: Any = None) -> Any:
        """What the first process gives (as JSON), in every process."""
        return value

    def share_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """The first process's tensors in every process."""
        return tensors or {}

    def wrap(self, model: nn.Module, forward: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        """A forward function whose backward averages gradients over all processes."""
        return forward

    def without_exchange(self, forward: Any) -> AbstractContextManager[Any]:
        """Inside the block gradients stay in their process, for all but the last batch of a step."""
        return nullcontext()

    def shared_layers(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Inside the block dropout and batch norm work over the whole batch."""
        return nullcontext()


class Group(Processes):
    """More than one process, over gloo on processors and nccl on GPUs."""

    def __init__(self, device: torch.device) -> None:
        if not dist.is_initialized():
            _join_group("nccl" if device.type == "cuda" else "gloo")
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.local_count = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
        self.device = device

    def add_up(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    def highest(self, values: list[float]) -> list[float]:
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        told: list[float] = shared.tolist()
        return told

    def share(self, value: Any = None) -> Any:
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(self.device)
        size = torch.tensor([len(text)], device=self.device)
        dist.broadcast(size, 0)
        if self.rank:
            text = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        dist.broadcast(text, 0)
        return json.loads(bytes(text.cpu().tolist()).decode())

    def share_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        tensors = tensors or {}
        kinds = self.share([[name, list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in tensors.items()])
        shared: dict[str, Tensor] = {}
        for name, shape, dtype in kinds:
            if self.rank:
                value = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            else:
                value = tensors[name].to(self.device).contiguous()
            dist.broadcast(value, 0)
            shared[name] = value.cpu()
        return shared

    def wrap(self, model: nn.Module, forward: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        # Looking for unused parameters keeps the buckets in one order for the whole run. Otherwise they are put in
        # another after the first step, sums over three and more processes round differently, and a resumed run,
        # whose first step is a later one, is not bit-identical.
        warnings.filterwarnings("ignore", message="Grad strides do not match")  # kernels of one channel have two orders
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # its heir is not in torch 2.9
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            _Forward(model, forward), device_ids=ids, find_unused_parameters=True, broadcast_buffers=False
        )

    def without_exchange(self, forward: Any) -> AbstractContextManager[Any]:
        stays: AbstractContextManager[Any] = forward.no_sync()
        return stays

    @contextmanager
    def shared_layers(self, model: nn.Module) -> Iterator[None]:
        changed: list[nn.Module] = []
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.forward = functools.partial(_batch_norm, module, module.forward)  # type: ignore[method-assign]
            elif isinstance(module, nn.modules.dropout._DropoutNd):
                module.forward = functools.partial(_dropout, module, self)
            else:
                continue
            changed.append(module)
        try:
            yield
        finally:
            for module in changed:
                del module.forward


class _Forward(nn.Module):
    """The model under a forward function of its own (compiled, or with fewer activations kept)."""

    def __init__(self, model: nn.Module, forward: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.function = forward

    def forward(self, inputs: Any) -> Tensor:
        return self.function(inputs)


def join_processes(device: torch.device) -> Processes:
    """The processes torchrun started, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    if not dist.is_available():
        raise ConfigError("this PyTorch was built without torch.distributed", hint="train with one process")
    with lost_peers_told():
        return Group(device)


def _join_group(backend: str) -> None:
    """Meet the other processes where torchrun says.

    After a restart on one machine torchrun's store still holds the addresses of the processes that are gone, and who
    reads them before they are written anew waits for nobody. There each start meets under a name of its own.
    """
    told = os.environ
    is_one_machine = told.get("LOCAL_WORLD_SIZE") == told["WORLD_SIZE"]
    if told.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or not is_one_machine:
        dist.init_process_group(backend)
        return
    store = dist.TCPStore(told["MASTER_ADDR"], int(told["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    name = f"start {told.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    named = dist.PrefixStore(name, store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=named, rank=int(told["RANK"]), world_size=int(told["WORLD_SIZE"]))


class LostPeer(MachineError):
    """Another process of the training has ended; whoever started the processes can start all again."""


@contextmanager
def lost_peers_told() -> Iterator[None]:
    """An exchange that fails because a process is gone as `LostPeer`."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        raise LostPeer(
            f"another process of this training has ended: {str(error).splitlines()[0]}",
            hint="torchrun starts all again with `--max-restarts`; `danlu train --resume RUN` goes on too",
        ) from error


class _SumOfAll(torch.autograd.Function):
    """A sum over all processes; what it gets back is summed as well, since each of them used the sum."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        summed = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


def _sum_of_all(values: Tensor) -> Tensor:
    summed: Tensor = _SumOfAll.apply(values)
    return summed


def _batch_norm(module: Any, alone: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Batch norm over the examples of all processes (Ioffe and Szegedy, 2015), by combining means and variances."""
    if not module.training:
        return alone(inputs)
    dims = [0, *range(2, inputs.ndim)]
    variance, mean = torch.var_mean(widened(inputs), dims, correction=0)
    count = torch.full_like(mean[:1], inputs.numel() / inputs.shape[1])
    sums = _sum_of_all(torch.cat([mean * count, count]))
    total = sums[-1].detach()
    whole_mean = sums[:-1] / total
    spread = _sum_of_all((variance + (mean - whole_mean) ** 2) * count)
    whole_variance = spread / total
    if module.track_running_stats and module.running_mean is not None:
        with torch.no_grad():
            module.num_batches_tracked += 1
            share = module.momentum if module.momentum is not None else 1 / float(module.num_batches_tracked)
            module.running_mean.lerp_(whole_mean.to(module.running_mean.dtype), share)
            module.running_var.lerp_((spread / (total - 1).clamp(min=1)).to(module.running_var.dtype), share)
    shape = [1, -1] + [1] * (inputs.ndim - 2)
    scale = torch.rsqrt(whole_variance + module.eps)
    if module.affine:
        scale = scale * module.weight
    shift = -whole_mean * scale
    if module.affine:
        shift = shift + module.bias
    normed: Tensor = (inputs * scale.view(shape) + shift.view(shape)).to(inputs.dtype)
    return normed


def _dropout(module: Any, processes: Processes, inputs: Tensor) -> Tensor:
    """The rows of this process of what dropout draws for the whole batch in one process."""
    if not module.training or module.p == 0:
        return inputs
    rows, first = processes.place
    shape = [rows, *inputs.shape[1:]]
    if not isinstance(module, (nn.Dropout, nn.AlphaDropout)):  # whole channels
        shape[2:] = [1] * (inputs.ndim - 2)
        noise = inputs.new_empty(shape)
    elif inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last):
        noise = torch.empty(shape, dtype=inputs.dtype, device=inputs.device, memory_format=torch.channels_last)
    else:
        noise = inputs.new_empty(shape)
    keep = 1 - module.p
    noise.bernoulli_(keep).div_(keep)
    dropped: Tensor = inputs * noise[first : first + len(inputs)]
    return dropped
