"""The verb `evaluate`: a run (and its test part, or other data) → `evaluation.json`, answers and a gallery."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base import log
from danlu.base.bundle import is_bundle
from danlu.base.config import read_config
from danlu.base.errors import ConfigError, DataError
from danlu.base.files import write_sealed_json
from danlu.base.runs import Run, find_run
from danlu.checks.finding import counted, listed
from danlu.data.kept_split import count_look
from danlu.data.own_part import changed_keys, own_part
from danlu.data.prepare import Part, check_unreadable, encode_examples
from danlu.data.split import HASH_LETTERS, ManifestRow, read_manifest
from danlu.evaluation.gallery import write_gallery
from danlu.prediction.answers import Answers
from danlu.prediction.predictor import NOT_CALIBRATED, Predictor, load
from danlu.prediction.rejection import with_threshold
from danlu.scores import calibration as calibrated
from danlu.scores import classification as scores
from danlu.scores.calibration import NEVER, Calibration
from danlu.sources.examples import Examples, index_labels
from danlu.sources.recognize import read_examples
from danlu.training.record import write_record

HARDEST = 50
ERROR_RATES = (0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Evaluation:
    """Metrics over the examples of one part; intervals are at 95 %.

    `per_class`: class → precision, recall, F1, support, and the intervals of the three. `confusion`: rows truth,
    columns answers, in the order of `classes`. `hardest`: the examples with the highest loss. `calibration`: error
    before and after the temperature, and the bins of the reliability diagram. `rejection`: what answering only from a
    confidence on costs and brings.
    """

    data: str
    examples: int
    classes: tuple[str, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]
    log_loss: float
    top_k: dict[int, float]
    averages: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]]
    per_class: dict[str, dict[str, Any]]
    confusion: list[list[int]]
    most_confused: list[dict[str, Any]]
    hardest: list[dict[str, Any]]
    calibration: dict[str, Any] = field(default_factory=dict)
    rejection: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"format": 1, **asdict(self)}


@dataclass(frozen=True)
class Scored:
    """The answers to one part: (examples, classes) probabilities before and after the temperature, and the truth."""

    plain: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    calibration: Calibration = NOT_CALIBRATED

    @cached_property
    def probabilities(self) -> np.ndarray:
        return self.calibration.apply(self.plain)


def evaluate(place: Run | str | Path, data: str | Path | None = None, *, max_error: float | None = None) -> Evaluation:
    """Score a run on its untouched test part, or on all labelled examples of `data`.

    The result on the run's own test part is written to the run: `evaluation.json`, `answers-test.csv`, the gallery of
    hardest and misclassified examples, and how often that part has been looked at. `max_error` chooses the
    confidence below which the run answers `unknown` from now on, on the validation part.
    Raises `DataError` when the data is no longer what the run was trained on.
    """
    run = place if isinstance(place, Run) else find_run(place)
    if max_error is not None:
        choose_max_error(run, max_error)
    predictor = load(run)
    notes: list[str] = []
    if data is not None:
        examples, part = _other_data(run, data, predictor, notes)
        scored = _scored(predictor, part, examples)
        return score(scored, data=str(data), notes=tuple(notes))
    examples, rows, part = _own_test_part(run, predictor, notes)
    if run.calibration() is None:
        notes.append("`calibration.json` is missing: confidences are as the model gives them")
    if read_config(run.config_file).settings.data.group_column:
        notes.append("examples of one group are not independent: the intervals are narrower than they should be")
    return score_part(run, predictor, OwnPart(examples, tuple(rows), part), tuple(notes))


@dataclass(frozen=True)
class OwnPart:
    """A run's test part: its examples, their rows of the manifest, and the same as model inputs."""

    examples: Examples
    rows: tuple[ManifestRow, ...]
    part: Part


def score_part(run: Run, predictor: Predictor, own: OwnPart, notes: tuple[str, ...] = ()) -> Evaluation:
    """Ask the model about a run's own test part, score its answers and write all that `evaluate` writes."""
    scored = _scored(predictor, own.part, own.examples)
    untested = [name for i, name in enumerate(predictor.classes) if not (own.part.labels == i).any()]
    if untested:
        notes = (*notes, f"{counted(len(untested), 'class has', 'classes have')} no test example: {listed(untested)}")
    counts = np.bincount(own.part.labels, minlength=len(predictor.classes))
    evaluation = score(scored, data="test part", notes=notes, rates=_thresholds(run))
    if round(evaluation.accuracy * evaluation.examples) <= counts.max():
        always = f"always answering `{predictor.classes[counts.argmax()]}` would be right as often or more"
        evaluation = replace(evaluation, notes=(*notes, f"{always} ({counts.max() / counts.sum():.2%})"))
    _write(run, evaluation, scored, own)
    return evaluation


def score(
    scored: Scored, *, data: str = "", notes: tuple[str, ...] = (), rates: dict[float, float | None] | None = None
) -> Evaluation:
    """All metrics of answers. `rates`: error rate → the confidence that promises it, to be tried on these examples."""
    probabilities, labels, classes = scored.probabilities, scored.labels, scored.classes
    if not len(labels):
        raise DataError(f"no example of {data or 'the data'} can be read: there is nothing to score")
    predicted_labels = probabilities.argmax(1)
    confusion = scores.confusion_matrix(labels, predicted_labels, len(classes))
    rows = scores.class_scores(confusion)
    correct = predicted_labels == labels
    right = int(correct.sum())
    own = probabilities[np.arange(len(labels)), labels]
    hardest = np.argsort(own, kind="stable")[:HARDEST]
    drawn = scores.score_intervals(confusion)
    top_k = {k: scores.top_k_accuracy(probabilities, labels, k) for k in (2, 3, 5) if k < len(classes)}
    accuracy_interval = scores.wilson_interval(right, len(labels))
    return Evaluation(
        data=data,
        examples=len(labels),
        classes=classes,
        accuracy=right / len(labels),
        accuracy_interval=accuracy_interval,
        log_loss=scores.log_loss(probabilities, labels),
        top_k=top_k,
        averages={name: _without_support(row) for name, row in scores.averages(rows).items()},
        intervals={
            "accuracy": accuracy_interval,
            "log_loss": scores.mean_interval(scores.log_losses(probabilities, labels)),
            **{
                f"top_{k}": scores.wilson_interval(round(share * len(labels)), len(labels))
                for k, share in top_k.items()
            },
            **drawn.averages,
        },
        per_class={
            name: {**asdict(row), **_class_intervals(row, confusion[i, i], drawn.f1[i])}
            for i, (name, row) in enumerate(zip(classes, rows, strict=True))
        },
        confusion=confusion.tolist(),
        most_confused=[
            {"truth": classes[truth], "answer": classes[answer], "count": count}
            for truth, answer, count in scores.most_confused(confusion)
        ],
        hardest=[
            {
                "key": scored.keys[i],
                "truth": classes[labels[i]],
                "answer": classes[predicted_labels[i]],
                "confidence": float(probabilities[i].max()),
                "probability_of_truth": float(own[i]),
            }
            for i in hardest
        ],
        calibration=_calibration(scored, probabilities, correct),
        rejection=_rejection(scored.calibration, probabilities.max(1), correct, rates or {}),
        notes=notes,
    )


def _calibration(scored: Scored, probabilities: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    def side(values: np.ndarray) -> dict[str, Any]:
        confidence = values.max(1)
        return {
            "expected_calibration_error": calibrated.expected_calibration_error(confidence, correct),
            "log_loss": scores.log_loss(values, scored.labels),
            "mean_confidence": float(confidence.mean()),
            "bins": [asdict(row) for row in calibrated.reliability(confidence, correct)],
        }

    return {
        "temperature": scored.calibration.temperature,
        "fitted_on": scored.calibration.examples,
        "by_chance": calibrated.chance_calibration_error(probabilities.max(1)),
        "before": side(scored.plain),
        "after": side(probabilities),
    }


def _rejection(
    calibration: Calibration, confidence: np.ndarray, correct: np.ndarray, rates: dict[float, float | None]
) -> dict[str, Any]:
    """The risk–coverage curve, and the chosen and some other thresholds, all tried on these answers."""

    def tried(max_error: float | None, threshold: float | None) -> dict[str, Any]:
        given = confidence >= (NEVER if threshold is None else threshold)
        wrong = int((~correct[given]).sum())
        return {
            "max_error": max_error,
            "threshold": threshold,
            "answered": int(given.sum()),
            "coverage": float(given.mean()),
            "wrong": wrong,
            "error": wrong / int(given.sum()) if given.any() else None,
            "error_interval": scores.wilson_interval(wrong, int(given.sum())),
        }

    return {
        "chosen": tried(calibration.max_error, calibration.threshold) if calibration.max_error is not None else None,
        "thresholds": [tried(rate, threshold) for rate, threshold in rates.items()],
        "curve": [asdict(point) for point in calibrated.risk_coverage(confidence, correct)],
    }


def _class_intervals(row: scores.ClassScores, right: int, f1: tuple[float, float] | None) -> dict[str, Any]:
    """None where a score has no examples to be measured on."""
    return {
        "precision_interval": scores.wilson_interval(int(right), row.answered) if row.answered else None,
        "recall_interval": scores.wilson_interval(int(right), row.support) if row.support else None,
        "f1_interval": f1 if row.support else None,
    }


def choose_max_error(place: Run | str | Path, max_error: float | None) -> None:
    """Write the threshold for an error rate into a run's calibration; None makes it answer always again.

    Raises `ConfigError` for what is no share, and for a run that is not calibrated.
    """
    run = place if isinstance(place, Run) else find_run(place)
    if max_error is not None and not 0 < max_error < 1:
        raise ConfigError(
            f"`max_error` is a share above 0 and below 1, got {max_error:g}", hint="0.05 for 5 % of wrong answers"
        )
    saved = run.calibration()
    if saved is None:
        raise ConfigError(f"`{run}` has no calibration, from which a threshold is chosen", hint="train it to its end")
    validation = Answers.read(run.answers_file("validation"))
    calibration = with_threshold(Calibration.from_json(saved), validation, max_error)
    write_sealed_json(run.calibration_file, {"format": 1, **calibration.to_json()})
    if is_bundle(run.bundle_folder):
        log.warn(f"the run's bundle has the threshold it was made with; `danlu export {run}` makes it anew")


def _thresholds(run: Run) -> dict[float, float | None]:
    """For usual error rates the confidence that promises them, from the validation part."""
    if not run.answers_file("validation").exists():
        return {}
    validation = Answers.read(run.answers_file("validation"))
    right = validation.right
    return {rate: calibrated.choose_threshold(validation.confidence, right, rate) for rate in ERROR_RATES}


def _scored(predictor: Predictor, part: Part, examples: Examples) -> Scored:
    plain = predictor.plain_probabilities(part.inputs)
    return Scored(plain, part.labels, predictor.classes, examples.keys, predictor.calibration)


def _write(run: Run, evaluation: Evaluation, scored: Scored, own: OwnPart) -> None:
    answers = Answers.of(scored.probabilities, scored.labels, scored.classes, scored.keys)
    answers.write(run.answers_file("test"))
    write_gallery(run, answers, own.examples)
    looks, runs_that_looked = count_look(own.rows, run.name)
    run.update(
        test_looks=run.status().get("test_looks", 0) + 1,
        test={
            "accuracy": evaluation.accuracy,
            "accuracy_interval": evaluation.accuracy_interval,
            "examples": evaluation.examples,
            "macro_f1": evaluation.averages["macro"]["f1"],
            "log_loss": evaluation.log_loss,
        },
    )
    looked = {"test_looks": run.status()["test_looks"], "part_looks": looks, "part_runs": runs_that_looked}
    write_sealed_json(run.evaluation_file, {**evaluation.to_json(), **looked})
    write_record(run)


def _without_support(row: scores.ClassScores) -> dict[str, float]:
    return {"precision": row.precision, "recall": row.recall, "f1": row.f1}


def _own_test_part(run: Run, predictor: Predictor, notes: list[str]) -> tuple[Examples, list[ManifestRow], Part]:
    """The examples the manifest calls test, whose content must still be what it was."""
    data = run.status()["data"]
    settings = read_config(run.config_file).settings.data
    chosen, rows = own_part(run, "test")
    encoded = encode_examples(chosen, predictor.recipe, use_cache=settings.cache)
    notes += check_unreadable(data, encoded.problems, len(rows), settings)
    kept = encoded.part.indices
    changed = changed_keys(rows, kept, encoded.hashes)
    if changed:
        raise DataError(
            f"{len(changed):,} test examples of `{data}` have changed since training, first: `{changed[0]}`",
            hint=f"`danlu evaluate {run} --data {data}` scores the data as it is now",
        )
    relabelled = [rows[i].key for i in kept if chosen.classes[chosen.labels[i]] != rows[i].label]
    if relabelled:
        raise DataError(
            f"{len(relabelled):,} test examples of `{data}` have other labels than at training,"
            f" first: `{relabelled[0]}`",
            hint="train again with the labels as they are now",
        )
    labels = index_labels([rows[i].label for i in kept], predictor.classes)
    return chosen.select(kept), rows, Part(encoded.part.inputs, labels, kept)


def _other_data(run: Run, data: str | Path, predictor: Predictor, notes: list[str]) -> tuple[Examples, Part]:
    """Other labelled examples, read as the run's own; those the run was trained on are counted."""
    settings = read_config(run.config_file).settings.data.model_copy(update={"source": "auto"})
    examples = read_examples(data, settings)
    if examples.kind != predictor.kind:
        raise DataError(f"`{data}` holds {examples.kind}, the model reads {predictor.kind}")
    unknown = [name for name in examples.classes if name not in predictor.classes]
    if unknown:
        raise DataError(
            f"`{data}` has {len(unknown)} classes the model does not know, first: `{unknown[0]}`",
            hint=f"the model's classes: {', '.join(predictor.classes[:20])}",
        )
    if any(part == "test" for part in examples.parts):
        examples = examples.select(np.flatnonzero(np.array(examples.parts) == "test"))
        notes.append(f"only the test part of `{data}`")
    encoded = encode_examples(examples, predictor.recipe)
    part = encoded.part
    total = len(examples) + len(examples.problems)
    notes += check_unreadable(data, examples.problems + encoded.problems, total, settings)
    seen = {row.sha256 for row in read_manifest(run.manifest_file) if row.part in ("train", "validation")}
    known = sum(digest[:HASH_LETTERS] in seen for digest in encoded.hashes)
    if known:
        notes.append(
            f"{known:,} of these {len(encoded.hashes):,} examples were in the run's train or validation part:"
            " the figures are too good"
        )
    for note in (*examples.notes, *notes):
        log.say(f"  {note}")
    names = [examples.classes[label] for label in part.labels]
    kept = examples.select(part.indices)
    return kept, Part(part.inputs, index_labels(names, predictor.classes), part.indices)
