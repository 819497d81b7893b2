"""Keras on JAX: `model.fit` on numpy arrays that are normalised before the clock starts."""

from __future__ import annotations

import os
import time
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"

import contract
import keras
import numpy as np


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


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--steps-per-execution", type=int, default=1)
    arguments = parser.parse_args()
    with np.load(arguments.data) as data:
        inputs = ((data["pixels"].astype(np.float32) / 255 - 0.5) / 0.5).reshape(len(data["pixels"]), -1)
        labels = data["labels"].astype(np.int32)
    first, second = contract.WIDTHS
    model = keras.Sequential(
        [
            keras.Input((inputs.shape[1],)),
            keras.layers.Dense(first, activation="relu"),
            keras.layers.Dense(second, activation="relu"),
            keras.layers.Dense(contract.CLASSES),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(contract.LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=arguments.steps_per_execution,
    )
    clock = Clock()
    verbose = {} if arguments.steps_per_execution == 1 else {"verbose": 0}
    model.fit(inputs, labels, batch_size=contract.BATCH_SIZE, epochs=arguments.epochs, callbacks=[clock], **verbose)
    contract.give_back(
        arguments,
        ("keras", "jax", "numpy"),
        seconds=clock.seconds,
        images=len(labels),
        accuracy=clock.accuracy,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )


if __name__ == "__main__":
    main()
