"""Whether probabilities mean what they say: calibration error, temperature, and when to answer `unknown`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from danlu.base.errors import ModelError

BINS = 15
HOTTEST = 100.0
EXTREME = 1e4  # no fitted temperature is near it, or its inverse
PRIOR_DEVIATION = 0.5
GRID = 33
REFINEMENTS = 3
SURE = 0.95
NEVER = 1.1  # no confidence reaches it
COVERAGES = 20
CELLS_AT_ONCE = 1 << 17
TINY = float(np.finfo(np.float64).tiny)
Confidence = float | np.ndarray


@dataclass(frozen=True)
class Bin:
    """Examples whose confidence lies from `low` to `high`: how many, their mean confidence and their accuracy."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How a model's scores become probabilities, and when it does not answer.

    `temperature` divides the logits. With `threshold`, an answer less confident than it is `unknown`; it was chosen so
    that at most `max_error` of the answers given are wrong, with a certainty of 95 %. `examples`: how many validation
    examples all this comes from.
    """

    temperature: float = 1.0
    examples: int = 0
    threshold: float | None = None
    max_error: float | None = None

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """(examples, classes) probabilities at temperature 1 → at this temperature; the order of classes stays.

        >>> Calibration(2.0).apply(np.array([[0.9, 0.1]])).round(2).tolist()
        [[0.75, 0.25]]
        """
        if self.temperature == 1:
            return probabilities
        calibrated = np.empty(probabilities.shape)
        for rows in _blocks(probabilities):
            cooled = np.maximum(probabilities[rows], TINY)
            cooled /= cooled.max(1, keepdims=True)
            cooled **= 1 / self.temperature
            cooled /= cooled.sum(1, keepdims=True)
            calibrated[rows] = cooled
        return calibrated

    def accepts(self, confidence: Confidence) -> Any:
        """Whether an answer of this confidence is given; of (examples,) of them, (examples,) bool."""
        return confidence >= (self.threshold or 0.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Raises `ModelError` for what is no calibration."""
        try:
            found = cls(float(values["temperature"]), int(values["examples"]), values["threshold"], values["max_error"])
            is_sound = 1 / EXTREME < found.temperature < EXTREME
            if found.threshold is None or found.max_error is None:
                is_sound &= found.threshold is found.max_error
            else:
                is_sound &= {type(found.threshold), type(found.max_error)} <= {int, float}
                is_sound &= 0 <= found.threshold <= NEVER and 0 < found.max_error < 1
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"the saved calibration is damaged: {error!r}") from error
        if not is_sound:
            raise ModelError(f"the saved calibration is damaged: {dict(values)}")
        return found


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The non-empty ones of `bins` equally wide bins of confidence.

    `confidence`: (examples,) the probability of the answer; `right`: (examples,) bool.
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    mean = np.bincount(place, confidence, bins) / np.maximum(count, 1)
    share = np.bincount(place, right, bins) / np.maximum(count, 1)
    return [
        Bin(i / bins, (i + 1) / bins, int(count[i]), float(mean[i]), float(share[i])) for i in np.flatnonzero(count)
    ]


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over equally wide bins, weighted by examples (Naeini et al., 2015).

    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    rows = reliability(confidence, right, bins)
    total = sum(row.count for row in rows)
    return float(sum(row.count * abs(row.confidence - row.accuracy) for row in rows) / total)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least log loss, between 1/100 and 100 (Guo et al., 2017, arXiv:1706.04599).

    `probabilities`: (examples, classes) at temperature 1; `labels`: (examples,). A prior, by which the logarithm of the
    temperature is normal around 0 with a deviation of 0.5, keeps a handful of right answers from making a model
    certain of everything; hundreds of examples outweigh it. The best of a grid, twice refined.
    """
    blocks = []
    for rows in _blocks(probabilities):
        scores = _logarithms(probabilities[rows])
        scores -= scores.max(1, keepdims=True)
        blocks.append((scores, scores[np.arange(len(scores)), labels[rows]]))

    def cost(logarithm: float) -> float:
        colder = math.exp(-logarithm)
        losses = [np.log(np.exp(scores * colder).sum(1)).sum() - own.sum() * colder for scores, own in blocks]
        return float(sum(losses)) + logarithm**2 / (2 * PRIOR_DEVIATION**2)

    best, width = 0.0, math.log(HOTTEST)
    for _ in range(REFINEMENTS):
        grid = np.linspace(max(best - width, -math.log(HOTTEST)), min(best + width, math.log(HOTTEST)), GRID)
        best = float(grid[np.argmin([cost(value) for value in grid])])
        width *= 2 / (GRID - 1)
    return math.exp(best)


def chance_calibration_error(confidence: np.ndarray, *, draws: int = 100, seed: int = 0) -> float:
    """The calibration error that a model whose confidence is exactly right stays below in 95 of 100 samples like this.

    With few examples the bins of the calibration error hold a handful each, and it is large by chance.
    """
    rng = np.random.default_rng(seed)
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    expected = np.bincount(place, confidence, BINS)
    off = [
        np.abs(np.bincount(place[rng.random(len(confidence)) < confidence], minlength=BINS) - expected).sum()
        for _ in range(draws)
    ]
    return float(np.quantile(off, SURE) / len(confidence))


@dataclass(frozen=True)
class RiskPoint:
    """Answering only from `threshold` on: the share answered, and the share of these that is wrong."""

    threshold: float
    coverage: float
    error: float


def risk_coverage(confidence: np.ndarray, right: np.ndarray, points: int = 100) -> list[RiskPoint]:
    """The curve of error against coverage, at up to `points` coverages, from few answers to all (El-Yaniv and Wiener,
    2010). Examples of equal confidence are answered together."""
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    wrong = np.cumsum(~right[order])
    ends = _ends_of_ties(sorted_confidence)
    wanted = np.unique(np.searchsorted(ends, np.linspace(1, len(order), min(points, len(order)))))
    chosen = ends[np.minimum(wanted, len(ends) - 1)]
    return [
        RiskPoint(float(sorted_confidence[k - 1]), k / len(order), float(wrong[k - 1] / k)) for k in chosen.tolist()
    ]


def choose_threshold(confidence: np.ndarray, right: np.ndarray, max_error: float) -> float | None:
    """The lowest confidence from which on at most `max_error` of the answers are wrong, with a certainty of 95 %.

    Of 20 coverages, the largest whose binomial upper limit of the error is low enough; the limit shares its 5 % of
    doubt among the 20 (as selective classification with guaranteed risk does: Geifman and El-Yaniv, 2017,
    arXiv:1705.08500). None where these examples are too few, or the model too weak, to promise it.
    """
    from scipy.special import betaincinv

    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    wrong = np.cumsum(~right[order])
    ends = _ends_of_ties(sorted_confidence)
    doubt = (1 - SURE) / COVERAGES
    for share in np.arange(COVERAGES, 0, -1) / COVERAGES:
        fitting = ends[ends <= share * len(order)]
        if not len(fitting):
            return None
        answered = int(fitting[-1])
        errors = int(wrong[answered - 1])
        limit = 1.0 if errors == answered else float(betaincinv(errors + 1, answered - errors, 1 - doubt))
        if limit <= max_error:
            return float(sorted_confidence[answered - 1])
    return None


def examples_needed(max_error: float) -> int:
    """How many right answers without a wrong one promise `max_error`: fewer validation examples never can.

    >>> examples_needed(0.02)
    297
    """
    return math.ceil(math.log((1 - SURE) / COVERAGES) / math.log(1 - max_error))


def _ends_of_ties(sorted_values: np.ndarray) -> np.ndarray:
    """How many values there are up to the end of each run of equal ones."""
    return np.append(np.flatnonzero(np.diff(sorted_values)) + 1, len(sorted_values))


def _blocks(probabilities: np.ndarray) -> Iterator[slice]:
    """Rows at a time, so that what is computed of them stays small with thousands of classes."""
    rows = max(1, CELLS_AT_ONCE // probabilities.shape[1])
    return (slice(start, start + rows) for start in range(0, len(probabilities), rows))


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Logits up to a constant a row; a probability of 0 stands for the smallest float64."""
    logarithms: np.ndarray = np.log(np.maximum(probabilities, TINY))
    return logarithms
