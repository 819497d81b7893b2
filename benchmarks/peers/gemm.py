"""The rate at which PyTorch multiplies square float32 matrices, for sizes from `--sizes`: what the processor can do."""

from __future__ import annotations

import statistics
import time

import contract
import torch

SECONDS_EACH = 1.0
FEWEST_PRODUCTS = 5


def main() -> None:
    parser = contract.parser(__doc__, reads_data=False)
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    contract.give_back(
        arguments,
        ("torch",),
        gflops={size: operations_per_second(size) / 1e9 for size in arguments.sizes},
        threads=torch.get_num_threads(),
    )


def operations_per_second(size: int) -> float:
    """That of the median product; a product is 2 × size³ operations."""
    left, right, product = (torch.rand(size, size) for _ in range(3))
    torch.mm(left, right, out=product)
    seconds: list[float] = []
    while len(seconds) < FEWEST_PRODUCTS or sum(seconds) < SECONDS_EACH:
        started = time.perf_counter()
        torch.mm(left, right, out=product)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds)


if __name__ == "__main__":
    main()
