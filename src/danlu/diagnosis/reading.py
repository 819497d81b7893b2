"""A run folder → the numbers the diseases look at."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from danlu.base.config import Config, read_config
from danlu.base.errors import ModelError
from danlu.base.runs import Run
from danlu.data.split import ManifestRow, read_manifest
from danlu.diseases.evidence import TrainingEvidence, ValidationAnswers
from danlu.models import MODELS
from danlu.prediction.answers import Answers
from danlu.training.choose import RECIPES, usual_training

HELD_OUT = ("validation", "test")


def read_evidence(run: Run) -> TrainingEvidence:
    """Of any run, also one that failed or was interrupted. Raises `ModelError` when its `run.json` is damaged."""
    status = run.status()
    manifest = read_manifest(run.manifest_file) if run.manifest_file.exists() else []
    answers = Answers.read(run.answers_file("validation")) if run.answers_file("validation").exists() else None
    classes = _classes(run, answers)
    config = read_config(run.config_file) if run.config_file.exists() else Config(read_config().settings)
    settings, usual = _settings(run, config, status)
    return TrainingEvidence(
        history=run.history(),
        steps=run.steps(),
        watched=[row for row in run.watched() if "layers" in row],
        first=run.first_step() or {},
        settings=settings,
        usual=usual,
        failure=status.get("failure"),
        classes=classes,
        counts=_counts(manifest, classes),
        sizes={part: int(count) for part, count in status.get("parts", {}).items()},
        leaked=_leaked(manifest),
        states_parts=any(note.startswith("parts as the data states them") for note in status.get("notes", [])),
        validation=_validation(answers, classes),
        is_own=run.is_own(),
    )


def _classes(run: Run, answers: Answers | None) -> tuple[str, ...]:
    if run.model_file.exists():
        return tuple(run.model()["classes"])
    if answers is None:
        return ()
    names = {*answers.truth, *answers.answer}
    return tuple(sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name)))


def _settings(run: Run, config: Config, status: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(every setting as it was, what danlu would choose where it knows), options of the model among both."""
    settings = {key: value for key, value, _ in config.rows()}
    if not run.model_file.exists():
        return settings, {}
    model = run.model()
    name = model["name"]
    settings |= {f"model.{option}": value for option, value in model["options"].items()}
    usual: dict[str, Any] = {}
    if name in RECIPES:
        count = int(status.get("parts", {}).get("train", 1))
        chosen = usual_training(name, count, config.settings.training)
        usual = {key: value for key, (value, _) in chosen.items()}
        defaults = MODELS.load(name).Options().model_dump()
        usual |= {f"model.{option}": value for option, value in {**defaults, **dict(RECIPES[name].options)}.items()}
    return settings, usual


def _counts(manifest: list[ManifestRow], classes: tuple[str, ...]) -> dict[str, list[int]]:
    table: dict[str, Counter[str]] = {}
    for row in manifest:
        table.setdefault(row.part, Counter())[row.label] += 1
    return {part: [counts[name] for name in classes] for part, counts in table.items()}


def _leaked(manifest: list[ManifestRow]) -> dict[str, float]:
    """Equal content, by the hashes of the manifest; nearly equal content is the gate's."""
    trained = {row.sha256 for row in manifest if row.part == "train"}
    shares = {}
    for part in HELD_OUT:
        rows = [row for row in manifest if row.part == part]
        if rows:
            shares[part] = sum(row.sha256 in trained for row in rows) / len(rows)
    return {part: share for part, share in shares.items() if share}


def _validation(answers: Answers | None, classes: tuple[str, ...]) -> ValidationAnswers | None:
    if answers is None or not len(answers):
        return None
    place = {name: number for number, name in enumerate(classes)}
    missing = next((name for name in (*answers.truth, *answers.answer) if name not in place), None)
    if missing is not None:
        raise ModelError(f"the validation answers name the class {missing!r}, which the model does not have")
    return ValidationAnswers(
        np.array([place[name] for name in answers.truth]),
        np.array([place[name] for name in answers.answer]),
        answers.confidence,
        len(classes),
    )
