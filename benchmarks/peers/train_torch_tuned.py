"""PyTorch by hand with what its documentation offers for speed: whole batches indexed out of one tensor
(`sampler=BatchSampler`, `batch_size=None`), fused Adam, sums kept as tensors and read once an epoch; where asked for,
channels-last memory and bf16 autocast."""

from __future__ import annotations

import time

import contract
import networks
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset


def main() -> None:
    parser = contract.parser(__doc__)
    contract.add_network(parser)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with np.load(arguments.data) as data:
        pixels, labels = torch.from_numpy(data["pixels"]), torch.from_numpy(data["labels"])
    dataset = TensorDataset((pixels.float() / 255 - 0.5) / 0.5, labels)
    sampler = BatchSampler(RandomSampler(dataset), contract.BATCH_SIZE, drop_last=False)
    loader = DataLoader(dataset, sampler=sampler, batch_size=None)
    model = networks.build(arguments.network, pixels.shape[1:])
    if arguments.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=contract.LEARNING_RATE, fused=True)
    seconds = []
    for _ in range(arguments.epochs):
        started = time.perf_counter()
        model.train()
        loss_sum, right, seen = torch.zeros(()), torch.zeros((), dtype=torch.int64), 0
        for inputs, targets in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
                scores = model(inputs)
                loss = functional.cross_entropy(scores, targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss_sum += loss.detach() * len(targets)
            right += (scores.detach().argmax(1) == targets).sum()
            seen += len(targets)
        accuracy = right.item() / seen
        seconds.append(time.perf_counter() - started)
    contract.give_back(
        arguments,
        ("torch", "numpy"),
        seconds=seconds,
        images=seen,
        accuracy=accuracy,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
