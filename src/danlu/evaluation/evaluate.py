"""The verb `evaluate`: a run (and its test part, or other data) → `evaluation.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base import log
from danlu.base.config import read_config
from danlu.base.errors import DataError
from danlu.base.files import write_json
from danlu.base.runs import Run, find_run
from danlu.base.settings import DataSettings
from danlu.data.prepare import Part, check_unreadable, encode_examples
from danlu.data.split import read_manifest
from danlu.prediction.predictor import Predictor, load
from danlu.scores import classification as scores
from danlu.sources.examples import Examples, index_labels
from danlu.sources.recognize import read_examples
from danlu.training.record import write_record

HARDEST = 50


@dataclass(frozen=True)
class Evaluation:
    """Metrics over the examples of one part; intervals are at 95 %.

    `per_class`: class → precision, recall, F1, support. `confusion`: rows truth, columns answers, in the order of
    `classes`. `hardest`: the examples with the highest loss.
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
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]]
    most_confused: list[dict[str, Any]]
    hardest: list[dict[str, Any]]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"format": 1, **asdict(self)}


def evaluate(place: Run | str | Path, data: str | Path | None = None) -> Evaluation:
    """Score a run on its untouched test part, or on all labelled examples of `data`.

    The result on the run's own test part is written to the run, with how often that part has been looked at.
    Raises `DataError` when the data is no longer what the run was trained on.
    """
    run = place if isinstance(place, Run) else find_run(place)
    predictor = load(run)
    notes: list[str] = []
    if data is None:
        examples, part = _own_test_part(run, predictor, notes)
        described = "test part"
    else:
        examples, part = _other_data(data, predictor, notes)
        described = str(data)
    probabilities = predictor.probabilities(part.inputs)
    evaluation = score(probabilities, part.labels, predictor.classes, examples.keys, data=described, notes=tuple(notes))
    if data is None:
        looks = run.status().get("test_looks", 0) + 1
        run.update(
            test_looks=looks,
            test={
                "accuracy": evaluation.accuracy,
                "accuracy_interval": evaluation.accuracy_interval,
                "examples": evaluation.examples,
            },
        )
        write_json(run.evaluation_file, {**evaluation.to_json(), "test_looks": looks})
        write_record(run)
    return evaluation


def score(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    keys: tuple[str, ...],
    *,
    data: str = "",
    notes: tuple[str, ...] = (),
) -> Evaluation:
    """All metrics from (examples, classes) probabilities and (examples,) labels."""
    predicted_labels = probabilities.argmax(1)
    confusion = scores.confusion_matrix(labels, predicted_labels, len(classes))
    rows = scores.class_scores(confusion)
    right = int((predicted_labels == labels).sum())
    own = probabilities[np.arange(len(labels)), labels]
    hardest = np.argsort(own, kind="stable")[:HARDEST]
    return Evaluation(
        data=data,
        examples=len(labels),
        classes=classes,
        accuracy=right / len(labels),
        accuracy_interval=scores.wilson_interval(right, len(labels)),
        log_loss=scores.log_loss(probabilities, labels),
        top_k={k: scores.top_k_accuracy(probabilities, labels, k) for k in (2, 3, 5) if k < len(classes)},
        averages={name: _without_support(row) for name, row in scores.averages(rows).items()},
        intervals=scores.bootstrap_intervals(labels, predicted_labels, len(classes)),
        per_class={name: asdict(row) for name, row in zip(classes, rows, strict=True)},
        confusion=confusion.tolist(),
        most_confused=[
            {"truth": classes[truth], "answer": classes[answer], "count": count}
            for truth, answer, count in scores.most_confused(confusion)
        ],
        hardest=[
            {
                "key": keys[i],
                "truth": classes[labels[i]],
                "answer": classes[predicted_labels[i]],
                "confidence": float(probabilities[i].max()),
                "probability_of_truth": float(own[i]),
            }
            for i in hardest
        ],
        notes=notes,
    )


def _without_support(row: scores.ClassScores) -> dict[str, float]:
    return {"precision": row.precision, "recall": row.recall, "f1": row.f1}


def _own_test_part(run: Run, predictor: Predictor, notes: list[str]) -> tuple[Examples, Part]:
    """The examples the manifest calls test, whose content must still be what it was."""
    status = run.status()
    rows = [row for row in read_manifest(run.manifest_file) if row.part == "test"]
    if not rows:
        raise DataError(f"`{run}` has no test part", hint=f"`danlu evaluate {run} --data DATA` scores other examples")
    settings = read_config(run.config_file).settings.data
    examples = read_examples(status["data"], settings)
    place = {key: index for index, key in enumerate(examples.keys)}
    missing = [row.key for row in rows if row.key not in place]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(rows):,} test examples are gone from `{status['data']}`, first: `{missing[0]}`"
        )
    chosen = examples.select(np.array([place[row.key] for row in rows]))
    encoded = encode_examples(chosen, predictor.recipe, use_cache=settings.cache)
    notes += check_unreadable(status["data"], encoded.problems, len(rows), settings)
    kept = encoded.part.indices
    changed = [
        rows[i].key for i, digest in zip(kept, encoded.hashes, strict=True) if not digest.startswith(rows[i].sha256)
    ]
    if changed:
        raise DataError(
            f"{len(changed):,} test examples of `{status['data']}` have changed since training, first: `{changed[0]}`",
            hint=f"`danlu evaluate {run} --data {status['data']}` scores the data as it is now",
        )
    labels = index_labels([rows[i].label for i in kept], predictor.classes)
    return chosen.select(kept), Part(encoded.part.inputs, labels, kept)


def _other_data(data: str | Path, predictor: Predictor, notes: list[str]) -> tuple[Examples, Part]:
    settings = DataSettings()  # type: ignore[call-arg]
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
    notes += check_unreadable(data, examples.problems + encoded.problems, len(examples), settings)
    for note in (*examples.notes, *notes):
        log.say(f"  {note}")
    names = [examples.classes[label] for label in part.labels]
    kept = examples.select(part.indices)
    return kept, Part(part.inputs, index_labels(names, predictor.classes), part.indices)
