"""What a training starts from: settings without `auto`, prepared examples, and the files that tell it before step 1."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from danlu.base import log
from danlu.base.config import Config, read_config
from danlu.base.errors import ConfigError
from danlu.base.files import write_csv, write_sealed_json, write_text
from danlu.base.machine import environment
from danlu.base.runs import Run, create_run
from danlu.checks.finding import Finding, counted
from danlu.data.gate import OFF, pass_gate, write_gate
from danlu.data.kept_split import earlier_split, keep_split, short_name
from danlu.data.prepare import PreparedData, prepare
from danlu.data.split import ManifestRow, read_manifest, write_manifest
from danlu.inputs.images import ImageRecipe
from danlu.models import MODELS
from danlu.models.build import check_kind, check_options
from danlu.models.shapes import ExampleShape, ImageShape, TextShape
from danlu.sources.recognize import recognize
from danlu.training.choose import check_names, choose_augmentation, choose_model, choose_training


@dataclass(frozen=True)
class Start:
    """A run with all that its training needs; `model` is `model.json`."""

    run: Run
    data: str
    config: Config
    prepared: PreparedData
    model: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For processes that do not see the run folder."""
        return {
            "run": str(self.run),
            "data": self.data,
            "settings": self.config.settings.model_dump(),
            "manifest": [asdict(row) for row in self.prepared.manifest],
            "model": self.model,
        }


@dataclass(frozen=True)
class Ready:
    """Examples that passed the data gate and settings without `auto`, before there is a run folder."""

    config: Config
    prepared: PreparedData
    findings: tuple[Finding, ...]


def start_run(data: str | Path, checked: Config, name: str | None) -> Start:
    """Read and split the data, replace every `auto`, and make the run folder. Holds nothing: the caller locks."""
    ready = make_ready(data, checked)
    config = ready.config
    run = create_run(name, f"{short_name(data)}-{config.settings.model.name}")
    log.say(f"run: {run}")
    write_gate(run, ready.findings, config.settings.data)
    return _write_start(run, data, config, ready.prepared)


def make_ready(data: str | Path, checked: Config) -> Ready:
    """Read and split the data, pass the data gate and replace every `auto`; nothing is written below `runs/`."""
    check_names(checked)
    source = checked.settings.data.source
    log.say(f"data: {data} ({recognize(data) if source == 'auto' else source})")
    _check_model_options(checked)
    settings = checked.settings.data
    # The gate tells the unreadable examples together with all else that is wrong.
    prepared = prepare(data, settings.model_copy(update={"unreadable": "skip"}), earlier=earlier_split(data, settings))
    findings = pass_gate(data, prepared, settings)
    config = _resolve(checked, prepared)
    _tell(findings, config)
    if "validation" not in prepared.parts:
        raise ConfigError(
            "there is no validation part", hint="give `data.split` a validation share, such as [0.7,0.1,0.2]"
        )
    return Ready(config, prepared, tuple(findings))


def read_start(run: Run) -> Start:
    """The start of a run that is gone on with. Raises `ConfigError` when its data has changed."""
    config = read_config(run.config_file)
    data = run.status()["data"]
    prepared = _prepare_again(data, config, read_manifest(run.manifest_file), f"`{run}` started")
    return Start(run, data, config, prepared, run.model())


def join_start(told: Mapping[str, Any]) -> Start:
    """The start that another process tells, on data that has to be the same here."""
    config = read_config(settings=told["settings"])
    rows = [ManifestRow(**row) for row in told["manifest"]]
    prepared = _prepare_again(told["data"], config, rows, "the first process read it")
    return Start(Run(Path(told["run"])), told["data"], config, prepared, dict(told["model"]))


def example_shape(prepared: PreparedData) -> ExampleShape:
    recipe = prepared.recipe
    if isinstance(recipe, ImageRecipe):
        return ImageShape(*recipe.shape)
    return TextShape(recipe.vocabulary_size, recipe.max_length)


def _prepare_again(data: str, config: Config, rows: list[ManifestRow], when: str) -> PreparedData:
    prepared = prepare(data, config.settings.data, earlier=rows)
    if [row.sha256 for row in prepared.manifest] != [row.sha256 for row in rows]:
        raise ConfigError(
            f"the data `{data}` is not what it was when {when}",
            hint="start a new run, which keeps the parts of the examples that are still there",
        )
    return prepared


def _check_model_options(config: Config) -> None:
    """Wrong options of a named model, before any data is read."""
    model = config.settings.model
    if model.name != "auto":
        check_options(model.name, MODELS.load(model.name).Options, model.model_extra or {})


def _resolve(config: Config, prepared: PreparedData) -> Config:
    """Every `auto` the data decides replaced, and each choice said with its reason."""
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
            log.say(f"  {key}={readable_value(value)}   {origin.removeprefix('auto: ')}")
    return config


def _tell(findings: Sequence[Finding], config: Config) -> None:
    """What the gate let pass; `gate.json` of the run and `danlu inspect` name the examples."""
    if config.settings.data.gate == "off":
        log.say(OFF)
    told = [finding for finding in findings if finding.severity == "warning"]
    notes = len(findings) - len(told)
    for finding in told:
        log.say(f"data gate, {finding.check}: {finding.message}")
    if findings:
        log.say(f"data gate: {counted(len(told), 'warning')}, {counted(notes, 'note')}, no error")


def readable_value(value: object) -> str:
    if value is None:
        return "off"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write_start(run: Run, data: str | Path, config: Config, prepared: PreparedData) -> Start:
    """Everything that is known before the first step, so that a failed run has a record too."""
    model = config.settings.model
    place = str(Path(data).resolve()) if Path(data).exists() else str(data)
    run.update(
        state="prepared",
        process=os.getpid(),
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
    keep_split(data, config.settings.data, prepared.manifest)
    if prepared.examples.problems:
        write_csv(run.unreadable_file, ("key", "reason"), ((p.key, p.reason) for p in prepared.examples.problems))
    description = describe_model(config, prepared)
    write_sealed_json(run.model_file, description)
    return Start(run, place, config, prepared, description)


def describe_model(config: Config, prepared: PreparedData) -> dict[str, Any]:
    """`model.json`: the architecture with all its options, the classes and the preprocessing."""
    model, recipe = config.settings.model, prepared.recipe
    options = check_options(model.name, MODELS.load(model.name).Options, model.model_extra or {})
    return {
        "format": 1,
        "kind": prepared.kind,
        "classes": list(prepared.classes),
        "name": model.name,
        "options": options.model_dump(),
        "example_shape": list(example_shape(prepared)),
        "preprocessing": {**recipe.geometry(), "mean": recipe.mean, "std": recipe.std}
        if isinstance(recipe, ImageRecipe)
        else recipe.to_json(),
    }


def _shortened(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:10]) + (" …" if len(classes) > 10 else "")
