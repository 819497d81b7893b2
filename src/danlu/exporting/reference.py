"""Measures what answers look like while nothing has changed, for the monitor."""

from __future__ import annotations

from typing import Any

from danlu.prediction.predictor import Predictor
from danlu.prediction.reference import FeatureSummary, Reference


def reference_statistics(predictor: Predictor, validation: Any, train: Any) -> Reference:
    """Of answers to validation inputs. Along which directions features are looked at is learnt from train inputs, so
    that the distributions along them are as those of any other examples."""
    _, known = predictor.with_features(train)
    probabilities, features = predictor.with_features(validation)
    return Reference.of(predictor.classes, probabilities, features, FeatureSummary.learnt(known))
