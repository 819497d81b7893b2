"""Training images per second of `digit_cnn` on Fashion-MNIST, danlu against its peers and against matrix products.

Every competitor trains on the images of danlu's train part, batch 64, Adam at 1e-3, loss and accuracy kept for every
batch, no validation in any clock, in a process of its own: one warm-up epoch, then the timed ones. What part of the
processor's float32 rate that is, the products of square matrices measured at the start of each round tell.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import report
import throughput
from throughput import Competitor

from danlu.models.build import build_model
from danlu.models.shapes import ImageShape
from danlu.models.summary import summarize

NETWORK = "digit_cnn"
SHAPE, CLASSES = ImageShape(1, 28, 28), 10
TRAIN_IMAGES = 60_000
GEMM_SIZES = (1024, 1536, 2048)
QUICK_IMAGES, QUICK_GEMM_SIZES = 600, (512,)
PEERS = {"peers": "torch, keras and jax", "tensorflow": "tensorflow"}


def competitors() -> dict[str, Competitor]:
    tutorial, tuned, keras = "train_tutorial.py", "train_torch_tuned.py", "train_keras.py"
    on_tensorflow = ("--backend", "tensorflow", "--quiet")
    return {
        "danlu": Competitor("danlu", throughput.DANLU),
        "danlu-fp32": Competitor("danlu, training.precision=fp32", throughput.DANLU, ("--precision", "fp32")),
        "tutorial": Competitor("tutorial loop, torchvision's steps", tutorial, ("--pillow",)),
        "tensors": Competitor("tutorial loop, tensors only", tutorial),
        "torch-tuned": Competitor("PyTorch tuned by hand", tuned),
        "torch-tuned-last": Competitor("PyTorch tuned by hand, channels last", tuned, ("--channels-last",)),
        "torch-tuned-bf16": Competitor(
            "PyTorch tuned by hand, channels last, bf16", tuned, ("--channels-last", "--bf16")
        ),
        "keras-tensorflow": Competitor("Keras on TensorFlow, defaults", keras, on_tensorflow, python="tensorflow"),
        "keras-tensorflow-jit": Competitor(
            "Keras on TensorFlow, jit_compile=True", keras, (*on_tensorflow, "--jit", "on"), python="tensorflow"
        ),
        "keras-tensorflow-32": Competitor(
            "Keras on TensorFlow, steps_per_execution=32",
            keras,
            (*on_tensorflow, "--steps-per-execution", "32"),
            python="tensorflow",
        ),
        "keras-jax": Competitor("Keras on JAX, defaults", keras, ("--backend", "jax", "--quiet")),
    }


def main() -> None:
    every = competitors()
    parser = throughput.parser(__doc__, every, PEERS)
    parser.add_argument("--images", type=int, default=12_000, help="train images of everyone")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.epochs, arguments.images = 1, 1, QUICK_IMAGES
    share = arguments.images / TRAIN_IMAGES
    asked = throughput.asked_for(every, arguments)
    facts = report.start_facts(arguments)
    products: list[dict[str, float]] = []

    def multiply(folder: Path) -> None:
        sizes = QUICK_GEMM_SIZES if arguments.quick else GEMM_SIZES
        command = [sys.executable, report.HERE / "peers" / "gemm.py", "--sizes", *map(str, sizes)]
        products.append(report.run_child(command, folder=folder)["gflops"])

    images, results = throughput.run_in_turn(arguments, asked, NETWORK, [share, 1 - share, 0], multiply)
    rates = [max(found.values()) for found in products]
    operations = operations_of_an_image()
    report.publish(
        arguments,
        "cnn_throughput",
        "Training throughput of digit_cnn on Fashion-MNIST",
        {**facts, "peers": throughput.versions(asked, results), "images": images},
        [
            {**row, "share of the GEMM rate": report.spread(shares_of(results[key], operations, rates)) + " %"}
            for key, row in zip(asked, throughput.table(asked, results), strict=True)
        ],
        {**results, "gemm_gflops": products},
        [
            *throughput.notes(images, results),
            f"share of the GEMM rate: images/s × {operations / 1e6:.1f} MFLOP an image (forward and backward, counted"
            " from the layers) ÷ the fastest size of float32 matrix products of the round, all threads:"
            f" {report.spread(rates, '.0f')} GFLOP/s",
        ],
    )


def operations_of_an_image() -> int:
    """Forward, gradients of the weights and gradients of the inputs, which the first layer does not need."""
    macs = [row.macs for row in summarize(build_model(NETWORK, SHAPE, CLASSES), SHAPE).rows if row.macs]
    return 2 * (3 * sum(macs) - macs[0])


def shares_of(results: list[dict[str, Any]], operations: int, rates: list[float]) -> list[float]:
    """In per cent, one a round."""
    speeds = [statistics.median(throughput.speeds(result)) for result in results]
    return [100 * speed * operations / 1e9 / rate for speed, rate in zip(speeds, rates, strict=True)]


if __name__ == "__main__":
    main()
