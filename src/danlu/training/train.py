"""The verbs `train` and `resume`: DATA → a run folder with the best model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danlu.base import log
from danlu.base.config import Config, read_config
from danlu.base.errors import ConfigError, DanluError, MachineError
from danlu.base.files import write_text
from danlu.base.runs import Run, find_run, point_latest
from danlu.data.augment import Augmentation
from danlu.data.batches import Batches, FixedBatches, ImageBatches, TextBatches
from danlu.data.prepare import PreparedData
from danlu.inputs.images import ImageRecipe
from danlu.models.build import build_model
from danlu.models.shapes import ExampleShape, ImageShape
from danlu.models.summary import summarize
from danlu.training.calibrate import calibrate
from danlu.training.choose_way import Model, choose_by_measuring
from danlu.training.interrupt import Interrupted
from danlu.training.keeper import Hooks
from danlu.training.launch import launch, launcher_fact, relaunched_run, restarts
from danlu.training.losses import Loss, balanced_weights, build_loss
from danlu.training.processes import LostPeer, Processes, join_processes, lost_peers_told
from danlu.training.record import write_record
from danlu.training.recorder import EpochRow, readable_seconds
from danlu.training.start import Start, example_shape, join_start, read_start, readable_value, start_run
from danlu.training.tensorboard import EventWriter
from danlu.training.trainer import Outcome, Trainer


def train(
    data: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    config: str | Path | None = None,
    words: Sequence[str] = (),
    name: str | None = None,
    processes: int = 1,
) -> Run:
    """Train a classifier on a path or a known data set and return its run folder.

    `settings`: Python values by key, such as `{"training.epochs": 5}`; `config`: a YAML file; `words`:
    `section.key=value` texts as on the command line. The test part is put aside and not looked at. `processes`: how
    many to train with on this machine; under torchrun it is torchrun that starts them.
    Raises `ConfigError`, `DataError`, `ModelError` or `MachineError`.

    >>> run = train("digits", {"model.name": "mlp", "training.epochs": 2})   # doctest: +SKIP
    """
    checked = read_config(config, words, settings)
    together = _join(checked.settings.training.device)
    if together.count > 1:
        if processes > 1:
            raise ConfigError("torchrun has started the processes", hint="leave `--processes` out")
        return _train_together(together, lambda: relaunched_run() or start_run(data, checked, name))
    start = start_run(data, checked, name)
    if processes > 1:
        return launch(start.run, processes)
    with start.run.hold():
        return _train_in(start, together)


def resume(place: str | Path | Run, *, inexact: bool = False, processes: int = 1) -> Run:
    """Go on with an interrupted run from its last checkpoint, with the settings and the split it started with.

    The result is the same bits as without the interruption. Where that cannot be, what differs is told and refused
    with `ConfigError`, unless `inexact`.
    """
    together = _join("auto")
    if together.count > 1:
        return _train_together(together, lambda: place if isinstance(place, Run) else find_run(place), inexact=inexact)
    run = place if isinstance(place, Run) else find_run(place)
    _require_unfinished(run)
    if processes > 1:
        return launch(run, processes, inexact=inexact)
    with run.hold():
        return _train_in(read_start(run), together, inexact=inexact)


def _train_together(together: Processes, begin: Callable[[], Run | Start], *, inexact: bool = False) -> Run:
    """Train as one of several processes: the first one finds or makes the run, tells it to the others, and writes."""
    if together.rank:
        told = together.share()
        if "exit_code" in told:
            raise SystemExit(told["exit_code"])
        with log.silence():
            return _train_in(join_start(told), together, inexact=inexact)
    with ExitStack() as stack:
        try:
            begun = begin()
            run = begun if isinstance(begun, Run) else begun.run
            if restarts() and run.status().get("state") == "failed":
                together.share({"exit_code": 0})  # to start again would only fail again; the launcher reads the state
                raise SystemExit(0)
            _require_unfinished(run)
            stack.enter_context(run.hold())
            start = begun if isinstance(begun, Start) else read_start(run)
        except DanluError as error:
            together.share({"exit_code": error.exit_code})
            raise
        run.update(launcher=launcher_fact())
        together.share(start.to_json())
        return _train_in(start, together, inexact=inexact)


def _require_unfinished(run: Run) -> None:
    if run.status().get("state") == "finished":
        raise ConfigError(f"the run `{run}` is finished", hint=f"`danlu evaluate {run}` shows its results")


def _train_in(start: Start, together: Processes, *, inexact: bool = False) -> Run:
    """Train in a run folder that this process holds, and write what became of it, whatever that is."""
    run, is_first = start.run, together.rank == 0
    started = time.time()
    if not is_first:
        with lost_peers_told():
            _fit(start, together, inexact=inexact)
        return run
    point_latest(run)
    run.update(state="running", process=os.getpid())
    run.forget_evaluation()
    write_record(run)
    try:
        with lost_peers_told() if together.count > 1 else nullcontext():
            outcome = _fit(start, together, inexact=inexact)
        calibrate(run, start.prepared, start.config.settings.prediction.max_error)
    except LostPeer:  # the run is not at fault, and goes on when the processes are started again
        raise
    except KeyboardInterrupt as stopped:
        how = str(stopped) if isinstance(stopped, Interrupted) else "interrupted"
        _note_end(run, started, state="interrupted", stop_reason=how)
        log.say(f"{how}; go on with `danlu train --resume {run}`")
        raise
    except DanluError as error:
        failure = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        _note_end(run, started, state="failed", stop_reason=error.message, failure=failure)
        raise
    except Exception as error:
        _note_end(run, started, state="failed", stop_reason=f"{type(error).__name__}: {error}")
        raise
    _note_end(
        run,
        started,
        state="finished",
        stop_reason=outcome.stop_reason,
        epochs_done=len(outcome.history),
        best=outcome.best.to_json(),
    )
    seconds = readable_seconds(run.status()["seconds"])
    accuracy = outcome.best.validation_accuracy or 0.0
    log.say(
        f"best: epoch {outcome.best.epoch + 1}, validation accuracy {accuracy:.2%} ({outcome.stop_reason}, {seconds})"
    )
    return run


def _note_end(run: Run, started: float, **values: Any) -> None:
    """State and record of a run that has ended; on a full disk only what ended it is raised, not this too."""
    try:
        seconds = round(time.time() - started + run.status().get("seconds", 0), 2)
        run.update(seconds=seconds, **values)
        write_record(run)
    except DanluError as error:
        log.warn(f"the run's state could not be written: {error.message}")


def _fit(start: Start, together: Processes, *, inexact: bool) -> Outcome:
    config, prepared = start.config, start.prepared
    training = config.settings.training
    device = choose_device(training.device)
    model = make_model(config, prepared, start.model).to(device)
    summary = summarize(model, example_shape(prepared))
    size = f"{summary.parameters:,} parameters, {summary.macs / 1e6:,.1f} M multiply-adds an example"
    log.say(f"model: {config.settings.model.name}, {size}")
    _require_early_size(config, model, example_shape(prepared))
    train_batches, validation_batches = make_batches(config, prepared, device)
    config = _measured(start, model, train_batches, device, together)
    training = config.settings.training
    every_steps = config.settings.checkpoint.every_steps
    with _hooks(start.run, config) as hooks:
        return Trainer(
            model,
            train_batches,
            validation_batches,
            make_loss(config, prepared, device),
            settings=training,
            device=device,
        ).fit(
            start.run.checkpoints_folder,
            every_steps=None if every_steps == "auto" else int(every_steps),
            inexact=inexact,
            unit=prepared.kind,
            hooks=hooks,
        )


def _require_early_size(config: Config, model: nn.Module, shape: ExampleShape) -> None:
    """The architecture has to read images of `augmentation.early_size` too."""
    size = config.settings.augmentation.early_size
    if not size or size == "auto" or not isinstance(shape, ImageShape):
        return
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, shape.channels, int(size), int(size), device=device))
    except RuntimeError as error:
        name = config.settings.model.name
        raise ConfigError(
            f"`augmentation.early_size={size}`: {name} built for {shape.height} pixels cannot read images of {size}",
            hint="set it to 0, or nearer to the size of the images; `model.name=fast_cnn` reads any from 8 on",
        ) from error


@contextmanager
def _hooks(run: Run, config: Config) -> Iterator[Hooks]:
    """History, step rows and TensorBoard of a run."""
    events = EventWriter(run.tensorboard_folder) if config.settings.training.tensorboard else None

    def on_epoch(row: EpochRow) -> None:
        run.add_history(row.to_json())
        if events:
            events.add_epoch(row)

    def on_steps(rows: list[dict[str, Any]]) -> None:
        run.add_steps(rows)
        if events:
            events.add_steps(rows)

    def on_resume(values: Mapping[str, Any]) -> None:
        lost = run.keep(values["history"], values["step"])
        if lost:
            log.warn(f"{lost:,} rows of `{run.steps_file}` are gone")
        if events:
            events.go_back(values["step"])
        log.say(f"going on after step {values['step']:,} (epoch {values['epoch'] + 1}, batch {values['batch']:,})")

    try:
        yield Hooks(on_epoch, on_steps, on_resume)
    finally:
        if events:
            events.close()


def _measured(start: Start, model: nn.Module, batches: Batches, device: torch.device, together: Processes) -> Config:
    """The settings that are chosen by measuring on this machine, which `config.yaml` then keeps for a resume."""
    config = start.config
    if together.rank == 0:
        training = config.settings.training
        steps = -(-len(batches) // training.accumulation_steps) * int(training.epochs)
        measured = Model(start.model, next(iter(batches.epoch(0))), together.local_count)
        choices = choose_by_measuring(config, model, measured, steps)
        for key, (value, reason) in choices.items():
            log.say(f"  {key}={readable_value(value)}   {reason}")
        if choices:
            config = config.with_chosen(choices)
            write_text(start.run.config_file, config.to_yaml())
    told = together.share(config.settings.training.model_dump())
    if together.rank:
        config = config.with_chosen({f"training.{name}": (value, "told") for name, value in told.items()})
    if device.type == "cpu":
        torch.set_num_threads(int(config.settings.training.threads))
    return config


def choose_device(wanted: str) -> torch.device:
    """The device to train on; a named one that is not there is an error, not a fall-back.

    Of several processes on a machine with GPUs, each takes the one of its number.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wanted]:
        raise MachineError(f"`training.device={wanted}`: there is none here", hint="`danlu check` shows what there is")
    if wanted == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    return torch.device(wanted)


def _join(device: str) -> Processes:
    return join_processes(choose_device(device))


def make_model(config: Config, prepared: PreparedData, description: Mapping[str, Any]) -> nn.Module:
    """The architecture of `model.json` with the first weights that the seed gives."""
    return build_model(
        config.settings.model.name,
        example_shape(prepared),
        len(prepared.classes),
        description["options"],
        initialization=config.settings.model.initialization,
        seed=config.settings.training.seed,
    )


def make_loss(config: Config, prepared: PreparedData, device: torch.device) -> Loss:
    """The loss of the settings, with the weights of classes where they are wished."""
    class_weights = None
    if config.settings.training.class_weights == "balanced":
        labels = torch.from_numpy(prepared.parts["train"].labels)
        class_weights = balanced_weights(labels, len(prepared.classes)).to(device)
    return build_loss(config.settings.training, class_weights)


def make_batches(config: Config, prepared: PreparedData, device: torch.device) -> tuple[Batches, Batches]:
    """Batches of the train part and of the validation part."""
    training, augmentation = config.settings.training, config.settings.augmentation
    part, recipe = prepared.parts["train"], prepared.recipe
    batch_size = int(training.batch_size)
    if isinstance(recipe, ImageRecipe):
        images = ImageBatches(
            part,
            recipe,
            batch_size=batch_size,
            seed=training.seed,
            sampling=training.sampling,
            augmentation=Augmentation(**augmentation.model_dump()),
            device=device,
        )
        images.reader_threads = config.settings.data.reader_threads
        return images, FixedBatches(prepared.parts["validation"], recipe, device=device)
    texts = TextBatches(part, batch_size=batch_size, seed=training.seed, sampling=training.sampling, device=device)
    return texts, FixedBatches(prepared.parts["validation"], None, device=device)
