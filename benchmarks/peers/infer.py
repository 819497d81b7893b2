"""One engine answers from one exported model: the median milliseconds of one example and of 64 together.

The engines get the same uint8 pixels or token numbers, compute the same float32 graph with the normalisation in it and
end with float64 probabilities.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from danlu.base.machine import available_cores
from danlu.prediction.onnx_engine import softmax

Answer = Callable[[np.ndarray], np.ndarray]
SECONDS = 0.7
FEWEST = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = np.load(arguments.inputs)
    answer = ENGINES[arguments.engine](arguments.run)
    found = {"probabilities": answer(rows[:4]).tolist()}
    for size in (1, len(rows)):
        found[f"ms_{size}"] = 1e3 * median_seconds(answer, rows[:size])
    arguments.out.write_text(json.dumps(found), encoding="utf-8")


def median_seconds(answer: Answer, rows: np.ndarray) -> float:
    for _ in range(3):
        answer(rows)
    taken: list[float] = []
    ends = time.perf_counter() + SECONDS
    while len(taken) < FEWEST or time.perf_counter() < ends:
        started = time.perf_counter()
        answer(rows)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def torch_eager(run: Path, *, compiled: bool = False) -> Answer:
    from danlu.base.machine import suit_process_to_training

    suit_process_to_training()
    import torch

    from danlu.base.runs import Run
    from danlu.exporting.exported import exported_of

    torch.set_num_threads(available_cores())
    model = exported_of(Run(run))
    if compiled:
        model = torch.compile(model)

    def answer(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(rows))[0].double().softmax(1).numpy()

    return answer


def torch_compile(run: Path) -> Answer:
    return torch_eager(run, compiled=True)


def onnxruntime_default(run: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(run / "bundle" / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda rows: softmax(session.run(["scores"], {"inputs": rows})[0])


def openvino(run: Path) -> Answer:
    import openvino as ov

    options = {"INFERENCE_NUM_THREADS": available_cores(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(run / "bundle" / "model.onnx", "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    return lambda rows: softmax(request.infer({"inputs": rows})["scores"])


def danlu_variant(run: Path, variant: str) -> Answer:
    from danlu.base.bundle import open_bundle
    from danlu.prediction.predictor import load_bundle

    return load_bundle(open_bundle(run / "bundle"), variant).engine.probabilities


ENGINES: dict[str, Callable[[Path], Answer]] = {
    "torch eager": torch_eager,
    "torch.compile": torch_compile,
    "onnxruntime, default": onnxruntime_default,
    "OpenVINO": openvino,
    "danlu fp32": lambda run: danlu_variant(run, "fp32"),
    "danlu int8": lambda run: danlu_variant(run, "int8"),
}

if __name__ == "__main__":
    main()
