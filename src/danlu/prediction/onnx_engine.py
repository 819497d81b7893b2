"""Probabilities through onnxruntime, without PyTorch. The only file of this room that imports it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime

from danlu.base.errors import MachineError, ModelError
from danlu.inputs.texts import groups_of_similar_length

INPUT, SCORES, FEATURES = "inputs", "scores", "features"
TYPES = {"images": "tensor(uint8)", "texts": "tensor(int64)"}
FATAL_ONLY = 4
TEXTS_TOGETHER = 8


@dataclass(frozen=True)
class HowToRun:
    """`threads`: 0 for as many as there are cores. `optimization`: of the graph, `basic`, `extended` or `all`.

    `spinning`: threads that wait for the next piece of work look for it all the time, which saves microseconds a step
    and takes processor time from everything else on the machine.
    """

    threads: int = 0
    optimization: str = "all"
    spinning: bool = False


class OnnxEngine:
    """An ONNX file as a function from pixels or token numbers to probabilities.

    The file is loaded from its bytes, so that it cannot name files outside. Texts of about the same length are computed
    8 at a time: padding to the longest of 64 reviews made a BiLSTM four times as slow.
    """

    def __init__(self, model: bytes, *, name: str, kind: str, num_classes: int, how: HowToRun = HowToRun()) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = how.threads
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{how.optimization.upper()}"
        )
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(how.spinning)))
        options.log_severity_level = FATAL_ONLY  # what fails is raised
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a type for each of its status codes
            raise ModelError(f"`{name}` cannot be run: {_first_line(error)}") from error
        self._kind = kind
        inputs = {value.name: (value.type, len(value.shape)) for value in self.session.get_inputs()}
        outputs = {value.name: (value.type, len(value.shape)) for value in self.session.get_outputs()}
        wanted = {INPUT: (TYPES[kind], 4 if kind == "images" else 2)}
        if inputs != wanted or any(outputs.get(output) != ("tensor(float)", 2) for output in (SCORES, FEATURES)):
            raise ModelError(f"`{name}` does not read {kind} as danlu writes them: {inputs} → {outputs}")
        scores = next(value for value in self.session.get_outputs() if value.name == SCORES).shape[-1]
        if scores != num_classes:
            raise ModelError(f"`{name}` has {scores} scores, the bundle {num_classes} classes")
        self.name, self.num_classes = name, num_classes

    @property
    def example_shape(self) -> tuple[int | str, ...]:
        """(channels, height, width), or the name of a text's length."""
        return tuple(self.session.get_inputs()[0].shape[1:])

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """(B, channels, height, width) uint8 or (B, length) int64 → (B, classes) float64 that add up to 1."""
        if not len(inputs):
            return np.zeros((0, self.num_classes))
        return softmax(self._run(inputs, SCORES)[0])

    def with_features(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `probabilities`, and the (B, features) float32 that the last layer reads."""
        scores, features = self._run(inputs, SCORES, FEATURES)
        return softmax(scores), features

    def _run(self, inputs: np.ndarray, *outputs: str) -> list[np.ndarray]:
        if self._kind == "images" or len(inputs) == 1:
            return self._compute(inputs, outputs)
        groups = groups_of_similar_length(inputs, TEXTS_TOGETHER)
        found = [self._compute(rows, outputs) for _, rows in groups]
        order = np.argsort(np.concatenate([places for places, _ in groups]))
        return [np.concatenate(parts)[order] for parts in zip(*found, strict=True)]

    def _compute(self, inputs: np.ndarray, outputs: tuple[str, ...]) -> list[np.ndarray]:
        try:
            found: list[np.ndarray] = self.session.run(outputs, {INPUT: np.ascontiguousarray(inputs)})
        except Exception as error:
            told = _first_line(error)
            if "allocate" in told.lower():
                raise MachineError(f"not enough memory for {len(inputs):,} examples at a time: {told}") from error
            raise ModelError(f"the model cannot compute an input of the shape {inputs.shape}: {told}") from error
        for output, values in zip(outputs, found, strict=True):
            if len(values) != len(inputs) or (output == SCORES and values.shape[1] != self.num_classes):
                raise ModelError(f"`{self.name}` gives {output} of the shape {values.shape} for {len(inputs):,} inputs")
        return found


def softmax(scores: np.ndarray) -> np.ndarray:
    """(B, classes) scores → float64 probabilities.

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    np.exp(shifted, out=shifted)
    probabilities: np.ndarray = shifted / shifted.sum(1, keepdims=True)
    return probabilities


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
