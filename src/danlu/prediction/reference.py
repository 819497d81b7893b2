"""What answers look like while nothing has changed: numbers of each answer, and their distributions on examples that
the model has not learnt from. Export writes them into the bundle, the service computes the same numbers of each answer,
and a monitor compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from danlu.base.bundle import REFERENCE, Bundle
from danlu.base.errors import ModelError

FORMAT = 2
LEVELS = np.linspace(0, 1, 201)
DIRECTIONS = 8
CONFIDENCE, ENTROPY, DISTANCE = "confidence", "entropy", "distance"
DECIMALS = 6  # the same in the journal: values that an over-confident model crowds at 1 have to stay equal
FEATURE_DECIMALS = 4
FARTHEST = 1000.0
MOST_NUMBERS = 1_000_000
MOST_EXAMPLES = 10**8
CONSTANT = 1e-5  # of a feature's size: what changes less is rounding


@dataclass(frozen=True)
class FeatureSummary:
    """The (features,) numbers that the last layer reads, as a few.

    `mean`, `scale`: (features,) of training examples; `directions`: (directions, features) of the standardised ones
    along which they differ most, each scaled to the variance 1 (principal components).
    """

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray

    @property
    def names(self) -> list[str]:
        return [DISTANCE, *(f"direction {number + 1}" for number in range(len(self.directions)))]

    @classmethod
    def learnt(cls, features: np.ndarray) -> FeatureSummary:
        """From (N, features) of training examples."""
        found = np.asarray(features, dtype=np.float64)
        mean, scale = _rounded(found.mean(0)), _rounded(found.std(0))
        scale = np.where(scale > CONSTANT * np.abs(mean), scale, 1.0)
        _, spread, directions = np.linalg.svd((found - mean) / scale, full_matrices=False)
        spread = spread / np.sqrt(len(found))
        kept = int((spread[:DIRECTIONS] > 1e-4 * spread[0]).sum()) if len(spread) and spread[0] > 0 else 0
        return cls(mean, scale, _rounded(directions[:kept] / spread[:kept, None]))

    def of(self, features: np.ndarray) -> np.ndarray:
        """(N, features) → (N, 1 + directions): the mean squared distance from the mean, in squares of the scale, and
        the place along each direction."""
        standardised = (features - self.mean) / self.scale
        distance = np.square(standardised).mean(1, keepdims=True)
        found = np.hstack([distance, standardised @ self.directions.T])
        bounded: np.ndarray = np.clip(np.nan_to_num(found, nan=FARTHEST), -FARTHEST, FARTHEST)
        return bounded


@dataclass(frozen=True)
class Reference:
    """`distributions`: by name, the quantiles at `LEVELS` of each number of an answer. `counts`: of the answers, by
    class. `summary`: None in bundles made before version 2 of these statistics."""

    examples: int
    distributions: Mapping[str, np.ndarray]
    counts: Mapping[str, int]
    summary: FeatureSummary | None

    @classmethod
    def of(
        cls, classes: tuple[str, ...], probabilities: np.ndarray, features: np.ndarray, summary: FeatureSummary
    ) -> Reference:
        """Of answers to examples that the model has not learnt from: (N, classes) and (N, features)."""
        counts = np.bincount(probabilities.argmax(1), minlength=len(classes))
        values = numbers_of(probabilities, features, summary)
        names = [CONFIDENCE, ENTROPY, *summary.names]
        quantiles = np.quantile(values, LEVELS, axis=0, method="inverted_cdf").T
        return cls(
            len(probabilities),
            dict(zip(names, quantiles, strict=True)),
            dict(zip(classes, counts.tolist(), strict=True)),
            summary,
        )

    def to_json(self) -> dict[str, Any]:
        summary = self.summary
        return {
            "format": FORMAT,
            "examples": self.examples,
            "part": "validation",
            "counts": dict(self.counts),
            "distributions": {name: values.tolist() for name, values in self.distributions.items()},
            "features": summary
            and {
                "mean": summary.mean.tolist(),
                "scale": summary.scale.tolist(),
                "directions": summary.directions.tolist(),
            },
        }

    @classmethod
    def from_json(cls, content: Any, place: str) -> Reference:
        """Raises `ModelError` for what is none."""
        try:
            if content["format"] == 1:
                return _of_format_1(content)
            if content["format"] != FORMAT:
                raise ModelError(f"`{place}` has the format {content['format']}, this danlu reads up to {FORMAT}")
            features = content["features"]
            summary = features and _summary_of(features)
            distributions = {str(name): _quantiles(values) for name, values in content["distributions"].items()}
            wanted = [CONFIDENCE, ENTROPY, *(summary.names if summary else [])]
            if list(distributions) != wanted:
                raise ValueError(f"distributions of {list(distributions)} in place of {wanted}")
            counts, examples = _counts(content["counts"]), int(content["examples"])
            if not 1 <= examples <= MOST_EXAMPLES or sum(counts.values()) != examples:
                raise ValueError(f"{examples} examples")
            return cls(examples, distributions, counts, summary)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelError(f"`{place}` does not hold reference statistics: {error}") from error


def read_reference(bundle: Bundle) -> Reference:
    """The statistics that travel with a model. Raises `ModelError` where they are damaged."""
    return Reference.from_json(bundle.read_json(REFERENCE), str(bundle.folder / REFERENCE))


def numbers_of(probabilities: np.ndarray, features: np.ndarray | None, summary: FeatureSummary | None) -> np.ndarray:
    """(N, classes) and (N, features) → (N, numbers) float64, rounded: confidence, entropy in nats and, where features
    are known, the numbers of their summary."""
    safe = np.maximum(probabilities, np.finfo(np.float64).tiny)
    entropy = -(probabilities * np.log(safe)).sum(1, keepdims=True)
    columns = [probabilities.max(1, keepdims=True).round(DECIMALS), entropy.round(DECIMALS)]
    if features is not None and summary is not None:
        columns.append(summary.of(features).round(FEATURE_DECIMALS))
    return np.hstack(columns) + 0.0  # no -0.0


def _of_format_1(content: Any) -> Reference:
    """Which had 101 quantiles, between examples, and no summary of the features."""
    quantiles = {
        name: np.interp(LEVELS, np.linspace(0, 1, 101), _numbers(content[name])).round(DECIMALS)
        for name in (CONFIDENCE, ENTROPY)
    }
    examples = int(content["examples"])
    shares = content["class_shares"]
    return Reference(
        examples, quantiles, _counts({name: round(float(share) * examples) for name, share in shares.items()}), None
    )


def _numbers(values: Any) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all() or found.size > MOST_NUMBERS:
        raise ValueError("not finite numbers")
    return found


def _quantiles(values: Any) -> np.ndarray:
    found = _numbers(values)
    if found.shape != LEVELS.shape or (np.diff(found) < 0).any():
        raise ValueError("quantiles that are none")
    return found


def _counts(values: Any) -> dict[str, int]:
    found = {str(name): int(count) for name, count in values.items()}
    if not found or min(found.values()) < 0:
        raise ValueError("counts that are none")
    return found


def _summary_of(content: Any) -> FeatureSummary:
    mean, scale = _numbers(content["mean"]), _numbers(content["scale"])
    directions = _numbers(content["directions"]).reshape(len(content["directions"]), len(mean))
    if scale.shape != mean.shape or (scale <= 0).any():
        raise ValueError("a summary of features that fits none")
    return FeatureSummary(mean, scale, directions)


def _rounded(values: np.ndarray) -> np.ndarray:
    """As they are written, so that what is computed with them is the same after reading."""
    return np.array([float(f"{value:.6g}") for value in values.ravel()]).reshape(values.shape)
