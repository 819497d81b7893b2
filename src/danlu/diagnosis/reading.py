"""A run folder → the numbers the diseases look at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base.config import Config, read_config
from danlu.base.errors import ModelError
from danlu.base.runs import Run
from danlu.data.split import ManifestRow, read_manifest
from danlu.diagnosis.layers import COLUMNS
from danlu.diseases.evidence import TrainingEvidence, ValidationAnswers
from danlu.models import MODELS
from danlu.prediction.answers import Answers
from danlu.training.choose import RECIPES, usual_training
from danlu.training.watch import PHASES

UNFINISHED = ("prepared", "running", "interrupted", "crashed")
HELD_OUT = ("validation", "test")
HISTORY = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate")
STEPS = ("step", "loss", "learning_rate")
WATCHED = ("step", "epoch", "loss", "learning_rate", "gradient_norm")
OF_A_LAYER = ("parameters", *COLUMNS)
# What belongs together in `first_step.json`; a part that lacks some of it was written by another version.
FIRST_STEP = {
    "inputs": ("kind", "examples", "bad_examples"),
    "scores": ("loss",),
    "parameters": ("total", "frozen", "not_in_optimizer", "without_gradient", "zero_gradient"),
    "resting": ("of", "count", "names"),
    "optimizer": ("name", "learning_rate", "weight_decay"),
}


def read_evidence(run: Run) -> TrainingEvidence:
    """Of any run, also one that failed or was interrupted. Raises `ModelError` when its `run.json` is damaged."""
    status = run.status()
    manifest = read_manifest(run.manifest_file) if run.manifest_file.exists() else []
    answers = Answers.read(run.answers_file("validation")) if run.answers_file("validation").exists() else None
    classes = _classes(run, answers)
    config = read_config(run.config_file) if run.config_file.exists() else Config(read_config().settings)
    settings, usual = _settings(run, config, status)
    return TrainingEvidence(
        history=_checked(run.history(), HISTORY, run.history_file),
        steps=_checked(run.steps(), STEPS, run.steps_file),
        watched=_watched(run),
        first=_first_step(run),
        settings=settings,
        usual=usual,
        failure=failure if isinstance(failure := status.get("failure"), dict) else None,
        classes=classes,
        counts=_counts(manifest, classes),
        sizes={part: count for part, count in status.get("parts", {}).items() if isinstance(count, int)},
        leaked=_leaked(manifest),
        states_parts=any(str(note).startswith("parts as the data states them") for note in status.get("notes", [])),
        validation=_validation(answers, classes),
        is_own=run.is_own(),
        is_unfinished=run.state() in UNFINISHED,
    )


def _checked(rows: list[dict[str, Any]], keys: tuple[str, ...], path: Path) -> list[dict[str, Any]]:
    """The rows, in which these keys are numbers, or None where there is none."""
    for number, row in enumerate(rows, 1):
        for key in keys:
            if key not in row or not (row[key] is None or isinstance(row[key], (int, float))):
                told = repr(row[key]) if key in row else "nothing"
                raise ModelError(f"`{path}` is damaged: line {number} has {told} as {key!r} instead of a number")
    return rows


def _watched(run: Run) -> list[dict[str, Any]]:
    """The steps that were looked at, each with the same layers."""
    rows = _checked([row for row in run.watched() if "layers" in row], WATCHED, run.watched_file)
    names: list[str] | None = None
    for number, row in enumerate(rows, 1):
        layers = row["layers"]
        if not isinstance(layers, list) or not all(
            isinstance(layer, dict) and {"name", "kind"} <= set(layer) for layer in layers
        ):
            raise ModelError(f"`{run.watched_file}` is damaged: line {number} has no layers")
        _checked(layers, OF_A_LAYER, run.watched_file)
        told = [str(layer.get("name")) for layer in layers]
        if not layers or (names is not None and told != names):
            raise ModelError(f"`{run.watched_file}` is damaged: line {number} has other layers than the first")
        names = told
        taken = row.get("milliseconds")
        if not isinstance(taken, dict) or not all(isinstance(taken.get(phase), (int, float)) for phase in PHASES):
            raise ModelError(f"`{run.watched_file}` is damaged: line {number} has no times of its phases")
    return rows


def _first_step(run: Run) -> dict[str, Any]:
    """Its parts, as far as they are complete."""
    told = run.first_step() or {}
    parts: dict[str, Any] = {}
    for name, keys in FIRST_STEP.items():
        part = told.get(name)
        if isinstance(part, dict) and all(key in part for key in keys):
            parts[name] = part
    inputs = parts.get("inputs", {})
    if "std" in inputs and not {"mean", "lowest", "highest"} <= set(inputs):
        parts["inputs"] = {key: value for key, value in inputs.items() if key != "std"}
    return parts


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
        count = int(status.get("parts", {}).get("train") or 1)
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
