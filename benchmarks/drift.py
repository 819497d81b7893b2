"""After how many changed requests the monitor says so, what it misses, and how often it speaks for nothing.

Runs are trained before (`--runs fashion photos reviews`, each with a bundle). Their test examples are what is sent:
first a thousand as they are, then changed. Beside danlu's limits stand two rules of thumb on the same answers, in
windows of 500: confidence and class shares with a population stability index above 0.2, and confidence with a
Kolmogorov-Smirnov p-value below 0.05. Then thirty days of unchanged answers at ten a second, drawn with replacement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import report
from scipy.stats import ks_2samp

from danlu.base.bundle import open_bundle
from danlu.base.runs import find_run
from danlu.exporting.held_out import MOST_VALIDATION, held_out
from danlu.inputs.images import ImageRecipe
from danlu.monitoring.alarms import AlarmBook
from danlu.monitoring.drift import DriftWatch
from danlu.monitoring.rows import Row
from danlu.prediction.predictor import Predictor, load_bundle
from danlu.prediction.reference import Reference, numbers_of, read_reference

CLEAN, CHANGED, WINDOW = 1000, 2000, 500
PER_SECOND, DAYS = 10, 30
MOST_TEST = 5000
OTHER_LANGUAGE = {
    "English": [
        "the food was cold and late",
        "very good, will order again",
        "the delivery man was rude and the soup leaked",
        "nice taste but the portion is small",
        "too expensive for what you get",
    ],
    "Japanese": [
        "とても美味しかったです",
        "配達が遅くて冷めていました",
        "量が少ないです",
        "また注文します",
        "味が薄い",
    ],
}


class Told:
    """Numbers and best classes of answers."""

    def __init__(self, predictor: Predictor, reference: Reference, inputs: Any) -> None:
        probabilities, features = predictor.with_features(inputs)
        self.numbers = numbers_of(probabilities, features, reference.summary)
        self.labels = probabilities.argmax(1)

    def __len__(self) -> int:
        return len(self.labels)


def main() -> None:
    parser = report.parser(__doc__, rounds=5)
    parser.add_argument("--runs", nargs="+", required=True)
    arguments = parser.parse_args()
    facts = report.start_facts(arguments)
    days = 1 if arguments.quick else DAYS
    rows: list[dict[str, Any]] = []
    samples: dict[str, Any] = {}
    for name in arguments.runs:
        run = find_run(name)
        bundle = open_bundle(run.bundle_folder)
        predictor, reference = load_bundle(bundle), read_reference(bundle)
        test = held_out(run, ("test",), MOST_TEST)
        clean = Told(predictor, reference, test.inputs)
        known = Told(predictor, reference, held_out(run, ("validation",), MOST_VALIDATION).inputs).numbers[:, 0]
        for change, make in changes(predictor).items():
            changed = Told(predictor, reference, make(test.inputs)) if make is not None else None
            lost = accuracy(clean, test.labels) - accuracy(changed, test.labels) if changed is not None else 0.0
            found = [
                after(change, clean, changed, test.labels, reference, known, seed) for seed in range(arguments.rounds)
            ]
            samples[f"{name}: {change}"] = found
            rows.append(
                {
                    "run": name,
                    "change": change,
                    "accuracy lost, points": f"{100 * lost:+.1f}" if changed is not None else "",
                    **{rule: told([one[rule] for one in found]) for rule in found[0]},
                }
            )
            report.say(" ".join(map(str, rows[-1].values())))
        false = stationary(clean, reference, known, days)
        samples[f"{name}: stationary"] = false
        told_false = {rule: f"{count:,}" for rule, count in false.items()}
        rows.append({"run": name, "change": f"none, {days} days, alarms", "accuracy lost, points": "", **told_false})
        report.say(" ".join(map(str, rows[-1].values())))
    report.publish(
        arguments,
        "drift",
        "After how many changed requests the monitor says so",
        facts,
        rows,
        samples,
        [
            f"median of {arguments.rounds} orders; `n of {arguments.rounds}` where some of them were missed in"
            f" {CHANGED:,} requests, and `missed` where all were",
            "PSI: confidence or classes above 0.2 in windows of 500",
            "KS 0.05: p of confidence in the same windows, as Evidently does by default with small samples",
            "a rule that speaks in a window of unchanged requests is counted in the last row of each run",
        ],
    )


def changes(predictor: Predictor) -> dict[str, Callable[[Any], Any] | None]:
    """What happens to the inputs; None for another mixture of classes."""
    if isinstance(predictor.recipe, ImageRecipe):
        return {
            "blur": lambda images: blurred(images, 2),
            "strong blur": lambda images: blurred(images, 6),
            "noise 10": lambda images: noisy(images, 10),
            "noise 20": lambda images: noisy(images, 20),
            "noise 40": lambda images: noisy(images, 40),
            "brighter by 30": lambda images: shifted(images, 30, 1),
            "brighter by 60": lambda images: shifted(images, 60, 1),
            "darker by 0.6": lambda images: shifted(images, 0, 0.6),
            "upside down": lambda images: images[:, :, ::-1],
            "one class twice as often": None,
            "one class half of all": None,
        }
    return {
        **{
            language: (lambda texts, words=words: [predictor.read(words[i % len(words)]) for i in range(len(texts))])
            for language, words in OTHER_LANGUAGE.items()
        },
        "half of each text": lambda texts: [row[: max(1, len(row) // 2)] for row in texts],
        "signs shuffled": lambda texts: [
            list(np.random.default_rng(i).permutation(row)) for i, row in enumerate(texts)
        ],
        "one class twice as often": None,
        "one class half of all": None,
    }


def blurred(images: np.ndarray, times: int) -> np.ndarray:
    """By the binomial filter 1 2 1 in both directions."""
    found = images.astype(np.float32)
    for _ in range(times):
        for axis in (2, 3):
            around = [np.roll(found, step, axis) for step in (-1, 1)]
            found = (around[0] + 2 * found + around[1]) / 4
    return found.round().astype(np.uint8)


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    return as_pixels(images + np.random.default_rng(0).normal(0, deviation, images.shape))


def shifted(images: np.ndarray, by: float, gain: float) -> np.ndarray:
    return as_pixels(images * gain + by)


def as_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).round().astype(np.uint8)


def accuracy(told_: Told, labels: np.ndarray) -> float:
    return float((told_.labels == labels).mean())


def after(
    change: str,
    clean: Told,
    changed: Told | None,
    labels: np.ndarray,
    reference: Reference,
    known: np.ndarray,
    seed: int,
) -> dict[str, int | None]:
    """Requests after the change until each rule speaks; None where it does not."""
    rng = np.random.default_rng(seed)
    first = rng.permutation(len(clean))[:CLEAN] if len(clean) >= CLEAN else rng.integers(0, len(clean), CLEAN)
    if changed is None:
        changed, second = clean, tilted(labels, change, rng)
    else:
        second = rng.integers(0, len(changed), CHANGED)
    numbers = np.concatenate([clean.numbers[first], changed.numbers[second]])
    answered = np.concatenate([clean.labels[first], changed.labels[second]])
    return {"danlu": by_danlu(numbers, answered, reference), **by_thumb(numbers[:, 0], answered, reference, known)}


def tilted(labels: np.ndarray, change: str, rng: np.random.Generator) -> np.ndarray:
    share = 0.5 if "half" in change else min(0.9, 2 * float((labels == 0).mean()))
    is_first = rng.random(CHANGED) < share
    return np.where(
        is_first,
        rng.choice(np.flatnonzero(labels == 0), CHANGED),
        rng.choice(np.flatnonzero(labels != 0), CHANGED),
    )


def by_danlu(numbers: np.ndarray, answered: np.ndarray, reference: Reference) -> int | None:
    watch, classes = DriftWatch(reference), list(reference.counts)
    for place, (values, label) in enumerate(zip(numbers.tolist(), answered.tolist(), strict=True)):
        for look in watch.add(as_row(place, values, classes[label])):
            if look.signals and place < CLEAN:
                raise RuntimeError(f"an alarm before the change: {look.signals}")
            if look.signals:
                return place + 1 - CLEAN
    return None


def as_row(place: int, values: Sequence[float], label: str) -> Row:
    return Row(1e9 + place / PER_SECOND, str(place), "m", label, False, 1.0, tuple(values), False)


def by_thumb(
    confidence: np.ndarray, answered: np.ndarray, reference: Reference, known: np.ndarray
) -> dict[str, int | None]:
    found: dict[str, int | None] = {"PSI": None, "KS 0.05": None}
    for end in range(CLEAN + 50, len(confidence) + 1, 50):
        window = slice(end - WINDOW, end)
        for rule, speaks in rules(confidence[window], answered[window], reference, known).items():
            if speaks and found[rule] is None:
                found[rule] = end - CLEAN
    return found


def rules(confidence: np.ndarray, answered: np.ndarray, reference: Reference, known: np.ndarray) -> dict[str, bool]:
    """`known`: the confidence of the validation examples."""
    edges = np.unique(np.concatenate([[-math.inf], np.quantile(known, np.linspace(0.1, 0.9, 9)), [math.inf]]))
    expected = np.histogram(known, edges)[0] / len(known)
    now = np.histogram(confidence, edges)[0] / len(confidence)
    before = np.array(list(reference.counts.values())) / reference.examples
    shares = np.bincount(answered, minlength=len(before)) / len(answered)
    return {
        "PSI": max(psi(now, expected), psi(shares, before)) > 0.2,
        "KS 0.05": bool(ks_2samp(confidence, known).pvalue < 0.05),
    }


def psi(now: np.ndarray, before: np.ndarray) -> float:
    now, before = np.maximum(now, 1e-4), np.maximum(before, 1e-4)
    return float(((now - before) * np.log(now / before)).sum())


def stationary(clean: Told, reference: Reference, known: np.ndarray, days: int) -> dict[str, int]:
    """Alarms of unchanged answers: looks as often as the monitor's at ten requests a second."""
    rng = np.random.default_rng(0)
    book, classes = AlarmBook("m", DriftWatch(reference)), list(reference.counts)
    rows = [(tuple(values), classes[label]) for values, label in zip(clean.numbers.tolist(), clean.labels, strict=True)]
    found = {"danlu": 0, "PSI": 0, "KS 0.05": 0}
    was = {"PSI": False, "KS 0.05": False}
    total = days * 86_400 * PER_SECOND
    for start in range(0, total, 100_000):
        chosen = rng.integers(0, len(rows), min(100_000, total - start))
        for place, index in enumerate(chosen.tolist(), start):
            values, label = rows[index]
            book.add(Row(1e9 + place / PER_SECOND, "", "m", label, False, 1.0, values, False))
        for end in range(WINDOW, len(chosen) + 1, WINDOW):
            window = chosen[end - WINDOW : end]
            spoken = rules(clean.numbers[window, 0], clean.labels[window], reference, known)
            for rule, speaks in spoken.items():
                found[rule] += speaks and not was[rule]
                was[rule] = speaks
    found["danlu"] = len(book.alarms)
    return found


def told(found: Sequence[int | None]) -> str:
    spoken = [one for one in found if one is not None]
    if not spoken:
        return "missed"
    middle = f"{statistics.median(spoken):,.0f}"
    return middle if len(spoken) == len(found) else f"{middle} ({len(spoken)} of {len(found)})"


if __name__ == "__main__":
    main()
