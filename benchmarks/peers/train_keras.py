"""Keras on JAX or TensorFlow: `model.fit` on numpy arrays that are normalised before the clock starts."""

from __future__ import annotations

import argparse
import os
import time
from importlib.metadata import packages_distributions
from typing import Any

import contract

JIT = {"auto": "auto", "on": True, "off": False}


def read_arguments() -> argparse.Namespace:
    parser = contract.parser(__doc__)
    contract.add_network(parser)
    parser.add_argument("--backend", choices=("jax", "tensorflow"), required=True)
    parser.add_argument("--steps-per-execution", type=int, default=1)
    parser.add_argument("--jit", choices=list(JIT), default="auto", help="`jit_compile`; what Keras chooses by default")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args()


arguments = read_arguments()
os.environ["KERAS_BACKEND"] = arguments.backend  # read when Keras is imported
os.environ["JAX_PLATFORMS"] = "cpu"

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402


class Clock(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.accuracy = 0.0

    def on_epoch_begin(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.accuracy = float((logs or {})["accuracy"])  # JAX works ahead: reading a result waits for it
        self.seconds.append(time.perf_counter() - self.started)


def mlp() -> list[keras.Layer]:
    first, second = contract.WIDTHS
    return [
        layers.Flatten(),
        layers.Dense(first, activation="relu"),
        layers.Dense(second, activation="relu"),
        layers.Dense(contract.CLASSES),
    ]


def digit_cnn() -> list[keras.Layer]:
    first, second = contract.CHANNELS
    return [
        layers.Conv2D(first, 3, activation="relu"),
        layers.Conv2D(second, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.SpatialDropout2D(contract.FEATURE_DROPOUT),
        layers.Flatten(),
        layers.Dense(contract.HIDDEN_SIZE, activation="relu"),
        layers.Dropout(contract.DROPOUT),
        layers.Dense(contract.CLASSES),
    ]


def main() -> None:
    with np.load(arguments.data) as data:
        pixels = data["pixels"].transpose(0, 2, 3, 1)
        labels = data["labels"].astype(np.int32)
    inputs = (pixels.astype(np.float32) / 255 - 0.5) / 0.5
    network = {"mlp": mlp, "digit_cnn": digit_cnn}[arguments.network]
    model = keras.Sequential([keras.Input(inputs.shape[1:]), *network()])
    model.compile(
        optimizer=keras.optimizers.Adam(contract.LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=arguments.steps_per_execution,
        jit_compile=JIT[arguments.jit],
    )
    clock = Clock()
    model.fit(
        inputs,
        labels,
        batch_size=contract.BATCH_SIZE,
        epochs=arguments.epochs,
        callbacks=[clock],
        verbose=0 if arguments.quiet else "auto",
    )
    contract.give_back(
        arguments,
        ("keras", packages_distributions()[arguments.backend][0], "numpy"),
        seconds=clock.seconds,
        images=len(labels),
        accuracy=clock.accuracy,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        jit=bool(model.jit_compile),
    )


if __name__ == "__main__":
    main()
