"""The verb `train`: DATA → a run folder with the best model."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danlu.base import log
from danlu.base.config import Config, read_config
from danlu.base.errors import ConfigError, DanluError, MachineError
from danlu.base.files import write_json, write_text
from danlu.base.machine import environment
from danlu.base.runs import Run, create_run, find_run, point_latest, splits_folder
from danlu.base.settings import DataSettings
from danlu.data.augment import Augmentation
from danlu.data.batches import Batches, FixedBatches, ImageBatches, TextBatches
from danlu.data.prepare import PreparedData, prepare
from danlu.data.split import ManifestRow, read_manifest, write_manifest
from danlu.inputs.images import ImageRecipe
from danlu.models import MODELS
from danlu.models.build import build_model, check_kind, check_options
from danlu.models.shapes import ExampleShape, ImageShape, TextShape
from danlu.models.summary import summarize
from danlu.sources.recognize import recognize
from danlu.training.checkpoints import Checkpoints
from danlu.training.choose import check_names, choose_augmentation, choose_model, choose_training
from danlu.training.fit import Outcome, fit
from danlu.training.losses import balanced_weights
from danlu.training.record import write_record
from danlu.training.recorder import readable_seconds
from danlu.training.threads import choose_threads


def train(
    data: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    config: str | Path | None = None,
    words: Sequence[str] = (),
    name: str | None = None,
) -> Run:
    """Train a classifier on a path or a known data set and return its run folder.

    `settings`: Python values by key, such as `{"training.epochs": 5}`; `config`: a YAML file; `words`:
    `section.key=value` texts as on the command line. The test part is put aside and not looked at.
    Raises `ConfigError`, `DataError`, `ModelError` or `MachineError`.

    >>> run = train("digits", {"model.name": "mlp", "training.epochs": 2})   # doctest: +SKIP
    """
    checked = read_config(config, words, settings)
    check_names(checked)
    source = checked.settings.data.source
    log.say(f"data: {data} ({recognize(data) if source == 'auto' else source})")
    _check_model_options(checked)
    prepared = prepare(data, checked.settings.data, earlier=_earlier_split(data, checked.settings.data))
    resolved = _resolve(checked, prepared)
    run = create_run(name, f"{_short_name(data)}-{resolved.settings.model.name}")
    log.say(f"run: {run}")
    _write_start(run, data, resolved, prepared)
    return _train_in(run, resolved, prepared, resumed=False)


def resume(place: str | Path) -> Run:
    """Go on with an interrupted run from its last checkpoint, with the settings and the split it started with."""
    run = find_run(place)
    status = run.status()
    if status.get("state") == "finished":
        raise ConfigError(f"the run `{run}` is finished", hint=f"`danlu evaluate {run}` shows its results")
    config = read_config(run.config_file)
    earlier = read_manifest(run.manifest_file)
    prepared = prepare(status["data"], config.settings.data, earlier=earlier)
    if [row.sha256 for row in prepared.manifest] != [row.sha256 for row in earlier]:
        raise ConfigError(
            f"the data `{status['data']}` is not what it was when `{run}` started",
            hint="start a new run, which keeps the parts of the examples that are still there",
        )
    point_latest(run)
    return _train_in(run, config, prepared, resumed=True)


def _train_in(run: Run, config: Config, prepared: PreparedData, *, resumed: bool) -> Run:
    started = time.time()
    run.update(state="running", process=os.getpid())
    try:
        outcome = _fit(run, config, prepared, resumed=resumed)
    except KeyboardInterrupt:
        run.update(state="interrupted", stop_reason="interrupted")
        write_record(run)
        log.say(f"interrupted; go on with `danlu train --resume {run}`")
        raise
    except DanluError as error:
        run.update(state="failed", stop_reason=error.message)
        write_record(run)
        raise
    except Exception as error:
        run.update(state="failed", stop_reason=f"{type(error).__name__}: {error}")
        write_record(run)
        raise
    run.update(
        state="finished",
        stop_reason=outcome.stop_reason,
        seconds=round(time.time() - started + run.status().get("seconds", 0), 2),
        epochs_done=len(outcome.history),
        best=outcome.best.to_json(),
    )
    write_record(run)
    log.say(
        f"best: epoch {outcome.best.epoch + 1}, validation accuracy {outcome.best.validation_accuracy:.2%}"
        f" ({outcome.stop_reason}, {readable_seconds(run.status()['seconds'])})"
    )
    return run


def _fit(run: Run, config: Config, prepared: PreparedData, *, resumed: bool) -> Outcome:
    training, model_settings = config.settings.training, config.settings.model
    device = choose_device(training.device)
    description = run.model()
    model = build_model(
        model_settings.name,
        example_shape(prepared),
        len(prepared.classes),
        description["options"],
        initialization=model_settings.initialization,
        seed=training.seed,
    ).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions: 10 to 40 % faster
    summary = summarize(model, example_shape(prepared))
    size = f"{summary.parameters:,} parameters, {summary.macs / 1e6:,.1f} M multiply-adds an example"
    log.say(f"model: {model_settings.name}, {size}")
    train_batches, validation_batches = _batches(config, prepared, device)
    if device.type == "cpu":
        _set_threads(run, config, model, train_batches)
    class_weights = None
    if training.class_weights == "balanced":
        labels = torch.from_numpy(prepared.parts["train"].labels)
        class_weights = balanced_weights(labels, len(prepared.classes)).to(device)
    checkpoints = Checkpoints(run.checkpoints_folder)
    if resumed and (saved := checkpoints.load_latest()):
        run.keep_history(saved.values["history"])
        log.say(f"going on after epoch {saved.values['epoch'] + 1}")
    elif resumed:
        run.keep_history([])
    return fit(
        model,
        train_batches,
        validation_batches,
        training,
        class_weights=class_weights,
        checkpoints=checkpoints,
        on_epoch=lambda row: run.add_history(row.to_json()),
        unit=prepared.kind,
    )


def _set_threads(run: Run, config: Config, model: nn.Module, batches: Batches) -> None:
    """The threads asked for, or the number that is fastest here, which `config.yaml` then keeps for a resume."""
    threads = config.settings.training.threads
    if threads == "auto":
        threads, reason = choose_threads(model, *next(batches.epoch(0)))
        log.say(f"  training.threads={threads}   {reason}")
        config = config.with_chosen({"training.threads": (threads, reason)})
        write_text(run.config_file, config.to_yaml())
    torch.set_num_threads(int(threads))


def choose_device(wanted: str) -> torch.device:
    """The device to train on; a named one that is not there is an error, not a fall-back."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    if not there[wanted]:
        raise MachineError(f"`training.device={wanted}`: there is none here", hint="`danlu check` shows what there is")
    return torch.device(wanted)


def example_shape(prepared: PreparedData) -> ExampleShape:
    recipe = prepared.recipe
    if isinstance(recipe, ImageRecipe):
        return ImageShape(*recipe.shape)
    return TextShape(recipe.vocabulary_size, recipe.max_length)


def _batches(config: Config, prepared: PreparedData, device: torch.device) -> tuple[Batches, Batches]:
    training, augmentation = config.settings.training, config.settings.augmentation
    part, recipe = prepared.parts["train"], prepared.recipe
    batch_size = int(training.batch_size)
    if "validation" not in prepared.parts:
        raise ConfigError(
            "there is no validation part", hint="give `data.split` a validation share, such as [0.7,0.1,0.2]"
        )
    if isinstance(recipe, ImageRecipe):
        changes = Augmentation(**augmentation.model_dump())
        batches: Batches = ImageBatches(
            part, recipe, batch_size=batch_size, seed=training.seed, augmentation=changes, device=device
        )
        return batches, FixedBatches(prepared.parts["validation"], recipe, device=device)
    batches = TextBatches(part, batch_size=batch_size, seed=training.seed, device=device)
    return batches, FixedBatches(prepared.parts["validation"], None, device=device)


def _check_model_options(config: Config) -> None:
    """Wrong options of a named model, before any data is read."""
    model = config.settings.model
    if model.name != "auto":
        check_options(model.name, MODELS.load(model.name).Options, model.model_extra or {})


def _resolve(config: Config, prepared: PreparedData) -> Config:
    """Every `auto` replaced, and each choice said with its reason."""
    config = config.with_chosen({**prepared.choices, **choose_model(config, prepared)})
    check_kind(config.settings.model.name, example_shape(prepared))
    config = config.with_chosen(choose_training(config, prepared))
    config = config.with_chosen(choose_augmentation(config, prepared))
    _check_model_options(config)
    log.say(prepared.examples.description)
    for note in prepared.notes:
        log.say(f"  {note}")
    counts = ", ".join(f"{len(part):,} {name}" for name, part in prepared.parts.items())
    log.say(f"parts: {counts}; {len(prepared.classes)} classes: {_shortened(prepared.classes)}")
    log.say("chosen (`section.key=value` changes it):")
    for key, value, origin in config.rows():
        if origin.startswith("auto: "):
            log.say(f"  {key}={_shown(value)}   {origin.removeprefix('auto: ')}")
    return config


def _shown(value: object) -> str:
    if value is None:
        return "off"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write_start(run: Run, data: str | Path, config: Config, prepared: PreparedData) -> None:
    """Everything that is known before the first step, so that a failed run has a record too."""
    model = config.settings.model
    recipe = prepared.recipe
    options = check_options(model.name, MODELS.load(model.name).Options, model.model_extra or {})
    place = str(Path(data).resolve()) if Path(data).exists() else str(data)
    run.update(
        state="prepared",
        data=place,
        started=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        kind=prepared.kind,
        model=model.name,
        parts={name: len(part) for name, part in prepared.parts.items()},
        notes=list(prepared.notes),
        environment=environment(),
    )
    write_text(run.config_file, config.to_yaml())
    write_manifest(run.manifest_file, prepared.manifest)
    _keep_split(data, config.settings.data, prepared)
    if prepared.examples.problems:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([("key", "reason"), *((p.key, p.reason) for p in prepared.examples.problems)])
        write_text(run.unreadable_file, out.getvalue())
    write_json(
        run.model_file,
        {
            "format": 1,
            "kind": prepared.kind,
            "classes": list(prepared.classes),
            "name": model.name,
            "options": options.model_dump(),
            "example_shape": list(example_shape(prepared)),
            "preprocessing": {**recipe.geometry(), "mean": recipe.mean, "std": recipe.std}
            if isinstance(recipe, ImageRecipe)
            else recipe.to_json(),
        },
    )


def _split_file(data: str | Path, settings: DataSettings) -> Path:
    place = str(Path(data).resolve()) if Path(data).exists() else f"known:{data}"
    key = f"{place} {settings.split} {settings.split_seed} {settings.group_column}"
    return (
        splits_folder()
        / f"{_short_name(data)}-{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}.csv"
    )


def _earlier_split(data: str | Path, settings: DataSettings) -> list[ManifestRow]:
    """The split of the last run on this data, kept for ever: an example never moves to another part."""
    path = _split_file(data, settings)
    return read_manifest(path) if path.exists() else []


def _keep_split(data: str | Path, settings: DataSettings, prepared: PreparedData) -> None:
    path = _split_file(data, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    here = {row.sha256 for row in prepared.manifest}
    gone = [row for row in _earlier_split(data, settings) if row.sha256 not in here]
    write_manifest(path, [*prepared.manifest, *gone])


def _short_name(data: str | Path) -> str:
    path = Path(data)
    name = path.resolve().name if path.exists() else str(data)
    stem = Path(name).stem if path.is_file() else name
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in stem)[:40].strip(".-") or "data"


def _shortened(classes: Sequence[str]) -> str:
    return ", ".join(classes[:10]) + (" …" if len(classes) > 10 else "")
