"""What answers look like while nothing has changed: the statistics a monitor compares with."""

from __future__ import annotations

from typing import Any

import numpy as np

from danlu.inputs.texts import pad_rows
from danlu.prediction.onnx_engine import OnnxEngine
from danlu.prediction.predictor import BATCH, Predictor

POINTS = np.linspace(0, 1, 101)


def reference_statistics(predictor: Predictor, inputs: Any) -> dict[str, Any]:
    """Of answers to validation examples: quantiles of confidence and entropy, the share of each class, and mean and
    standard deviation of each feature."""
    probabilities = predictor.probabilities(inputs)
    confidence = probabilities.max(1)
    entropy = -(probabilities * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))).sum(1)
    shares = np.bincount(probabilities.argmax(1), minlength=len(predictor.classes)) / len(probabilities)
    features = _features(predictor, inputs)
    return {
        "format": 1,
        "examples": len(probabilities),
        "part": "validation",
        "confidence": np.quantile(confidence, POINTS).tolist(),
        "entropy": np.quantile(entropy, POINTS).tolist(),
        "class_shares": dict(zip(predictor.classes, shares.tolist(), strict=True)),
        "features": {"mean": features.mean(0).tolist(), "std": features.std(0).tolist()},
    }


def _features(predictor: Predictor, inputs: Any) -> np.ndarray:
    engine = predictor.engine
    if not isinstance(engine, OnnxEngine):
        raise TypeError(f"features come from an exported model, not from {type(engine).__name__}")
    found = []
    for start in range(0, len(inputs), BATCH):
        rows = inputs[start : start + BATCH]
        found.append(engine.features(rows if isinstance(rows, np.ndarray) else pad_rows(rows)))
    return np.concatenate(found)
