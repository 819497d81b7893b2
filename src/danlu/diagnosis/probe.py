"""The verb `probe`: what a training would meet, tried in half a minute on copies that are thrown away."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from danlu.base import log
from danlu.base.config import Config, read_config, words_of
from danlu.base.errors import ConfigError, ModelError
from danlu.base.extras import require_extra
from danlu.base.files import make_folder, write_json
from danlu.base.runs import probes_folder
from danlu.base.settings import TrainingSettings
from danlu.checks.finding import counted
from danlu.data.batches import Batches
from danlu.data.kept_split import own_folder_name
from danlu.diagnosis.found import Found, command_of
from danlu.diseases.diagnosis import Cure
from danlu.diseases.evidence import TrainingEvidence
from danlu.diseases.examine import examine
from danlu.training.assemble import build_batches, build_trainer, choose_device, first_model, loss_for, use_threads
from danlu.training.choose_way import Measured, Model
from danlu.training.losses import Loss, LossFunction
from danlu.training.memory import channels_last_gradients
from danlu.training.one_step import one_step
from danlu.training.overfit import Overfit, overfit_one_batch
from danlu.training.range_test import SECONDS, RangeTest, range_test
from danlu.training.start import Plan, describe_model, plan_training, readable_value
from danlu.training.trainer import Trainer, only_deterministic_kernels
from danlu.training.untouched import copied, same_kind, untouched_generators

ALL_SECONDS, LEAST_SECONDS = 24.0, 6.0  # what is left of the first is for the range test, but never less than that
ENOUGH_STEPS = 20  # a decade of rates; with fewer, noise may hide that the loss falls
NO_FALL = 2.5  # standard errors; what lies between this and a sure fall is no finding, but noise
NEAR = 3.0  # a configured rate within this factor of the suggested one is as good: docs/LOG.md


@dataclass(frozen=True)
class Known:
    """What is known of a model and its data beside what is tried: settings by dotted key, examples of each class."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Probed:
    """What was found before training.

    `configured`: the settings that matter here, by name. `first_step`: what the one-step test told. `findings`: the
    surest first, each with the line that cures it. `command`: the line that trains with the suggested rate, where it is
    more than three times the configured one or less than a third. `is_tuned`: the rate is danlu's own
    choice. `page`: the HTML file, if there is one.
    """

    name: str
    model: str
    configured: dict[str, Any]
    overfit: Overfit
    range_test: RangeTest
    first_step: dict[str, Any] | None = None
    findings: tuple[Found, ...] = ()
    command: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    is_tuned: bool = False
    page: Path | None = None

    @property
    def suggested_rate(self) -> float | None:
        """The suggested learning rate in two digits; None where no rate made the loss fall."""
        return None if self.range_test.suggested is None else float(f"{self.range_test.suggested:.2g}")

    @property
    def is_near(self) -> bool:
        """Whether the configured rate is within a factor of three of the suggested one."""
        suggested, rate = self.suggested_rate, float(self.configured["learning_rate"])
        return suggested is not None and 1 / NEAR <= rate / suggested <= NEAR

    @property
    def is_fine(self) -> bool:
        """Whether the rate may stay: it is near the suggested one, or usable and danlu's own, tuned for the model."""
        return self.is_near or (
            self.is_tuned and self.range_test.judge(float(self.configured["learning_rate"])) == "usable"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "name": self.name,
            "model": self.model,
            "configured": self.configured,
            "overfit": self.overfit.to_json(),
            "range_test": self.range_test.to_json(),
            "suggested_rate": self.suggested_rate,
            "first_step": self.first_step,
            "findings": [found.to_json() for found in self.findings],
            "command": self.command,
            "seconds": self.seconds,
        }


def probe(
    data: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    config: str | Path | None = None,
    words: Sequence[str] = (),
    folder: str | Path | None = None,
) -> Probed:
    """Try what `train` would train, in about half a minute: one batch by heart, and which learning rates it takes.

    Data, settings and the data gate are those of `train`; no run is made and no weight is kept. The page and the JSON
    go to `folder`, or below `runs/probes/`. Raises what `train` raises.

    >>> probed = probe("digits", {"model.name": "mlp"})     # doctest: +SKIP
    >>> probed.overfit.reached, probed.suggested_rate       # doctest: +SKIP
    (True, 0.0019)
    """
    require_extra("train", "a probe")
    started = time.perf_counter()
    checked = read_config(config, words, settings)
    device = choose_device(checked.settings.training.device)
    plan = plan_training(data, checked)
    seconds = {"data": round(time.perf_counter() - started, 2)}
    with _threads_put_back():
        trainer, plan = _trainer(plan, device)
        seconds["machine"] = round(time.perf_counter() - started - seconds["data"], 2)
        plain = plan.config.with_chosen(_unchanged_examples(plan.config))
        probed = _probe(
            trainer,
            build_batches(plain, plan.prepared, device)[0],
            loss_for(plain, plan.prepared, device),
            name=str(data),
            known=_known(plan),
            end=started + ALL_SECONDS,
        )
    given = [
        word
        for key, value, origin in checked.rows()
        if origin in ("command line", "settings")
        for word in words_of({key: value})
    ]
    findings = [replace(one, command=command_of(one.diagnosis.cure, data, given, config)) for one in probed.findings]
    probed = replace(probed, findings=tuple(findings))
    probed = replace(probed, is_tuned=checked.settings.training.learning_rate == "auto")
    if not probed.is_fine and probed.suggested_rate is not None:
        better = Cure("", {"training.learning_rate": float(f"{probed.suggested_rate:g}")})
        probed = replace(probed, command=command_of(better, data, given, config))
    probed = replace(probed, seconds={**seconds, **probed.seconds})
    home = Path(folder) if folder is not None else probes_folder() / own_folder_name(data)
    probed = _written(probed, home)
    log.say(f"probed in {time.perf_counter() - started:.1f} s: {probed.page}")
    return probed


@dataclass(frozen=True)
class CuredProbe:
    """A probe with what its first curable finding proposes. `remains`: whether the finding is still there."""

    disease: str
    settings: Mapping[str, Any]
    after: Probed
    remains: bool

    @property
    def told(self) -> str:
        """One sentence."""
        words = " ".join(words_of(self.settings))
        return f"with {words} {self.disease} is {'still found' if self.remains else 'gone'}"


def cure_probe(
    probed: Probed,
    data: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    config: str | Path | None = None,
    words: Sequence[str] = (),
    folder: str | Path | None = None,
) -> CuredProbe:
    """Probe again with what the surest curable finding of a probe of the same data and settings proposes.

    Raises `ConfigError` when no finding has a cure that is a setting.

    >>> cure_probe(probe("digits"), "digits").told     # doctest: +SKIP
    'with training.learning_rate=0.002 rate_too_low is gone'
    """
    found = next((one.diagnosis for one in probed.findings if one.diagnosis.cure.settings), None)
    if found is None:
        names = ", ".join(one.diagnosis.disease for one in probed.findings)
        raise ConfigError(
            f"no setting cures what was found: {names}" if names else "nothing was found, so there is nothing to cure",
            hint=probed.findings[0].diagnosis.cure.advice if names else "`danlu train` is the next step",
        )
    change = dict(found.cure.settings)
    log.say(f"again, with {' '.join(words_of(change))}:")
    kept = [word for word in words if word.partition("=")[0] not in change]
    after = probe(data, {**(settings or {}), **change}, config=config, words=kept, folder=folder)
    return CuredProbe(
        found.disease, change, after, any(one.diagnosis.disease == found.disease for one in after.findings)
    )


def probe_model(
    model: nn.Module,
    train_batches: Batches | Iterable[Any],
    loss: Loss | LossFunction | str | None = None,
    optimizer: torch.optim.Optimizer | str | None = None,
    *,
    settings: TrainingSettings | Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    folder: str | Path | None = None,
) -> Probed:
    """`probe` for a module and a loader of your own; the parameters are those of `Trainer`.

    The module, its optimizer, and the random generators are afterwards what they were before. With a `folder`,
    `probe.html` and `probe.json` are written there. Raises `ModelError` for a module that cannot be copied or has no
    parameters, `DataError` for a loader without batches.

    >>> x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    >>> pairs = [(x, (x[:, 0] > 0).long())]
    >>> net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 2))
    >>> probed = probe_model(net, pairs, nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters(), lr=1e-5))
    >>> probed.overfit.reached, [found.diagnosis.disease for found in probed.findings]
    (True, ['rate_too_low'])
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            f"{type(model).__name__} has no parameter that is trained",
            hint="`requires_grad_(True)` on the parameters that should learn",
        )
    with untouched_generators(train_batches):
        trial = copied(model)
        if isinstance(optimizer, torch.optim.Optimizer):
            optimizer = same_kind(optimizer, model)(trial)
        trainer = Trainer(trial, train_batches, train_batches, loss, optimizer, settings=settings, device=device)
        name = type(model).__name__
        probed = _probe(trainer, trainer.train_batches, trainer.loss, name=name, known=Known())
    return probed if folder is None else _written(probed, Path(folder))


def _probe(
    trainer: Trainer, plain_batches: Batches, plain_loss: Loss, *, name: str, known: Known, end: float | None = None
) -> Probed:
    """All tests of what a trainer would train; `plain_…`: without augmentation and label smoothing.

    `end`: when the last should be done, by `time.perf_counter`.
    """
    started = time.perf_counter()
    log.say("one step …")
    step = one_step(trainer)
    watched = time.perf_counter()
    settings, own_optimizer = trainer.settings, same_kind(trainer.optimizer, trainer.model)
    in_order = channels_last_gradients(trainer.model) if settings.channels_last else nullcontext()
    with only_deterministic_kernels(settings.deterministic), in_order:  # as the loop does it
        log.say("one batch by heart …")
        overfit = overfit_one_batch(trainer.model, plain_batches, plain_loss, seed=settings.seed)
        log.say("learning-rate range test …")
        left = SECONDS if end is None else max(LEAST_SECONDS, min(SECONDS, end - time.perf_counter()))
        tested = range_test(
            trainer.model, trainer.train_batches, trainer.loss, own_optimizer, settings=settings, seconds=left
        )
    group = trainer.optimizer.param_groups[0]
    rate = float(group["initial_lr"])
    configured: dict[str, Any] = {
        "learning_rate": rate,
        "optimizer": settings.optimizer,
        "schedule": settings.schedule,
        "batch_size": settings.batch_size,
    }
    seconds = {"first_step": watched - started, "overfit": overfit.seconds, "range_test": tested.seconds}
    return Probed(
        name=name,
        model=known.settings.get("model.name") or type(trainer.model).__name__,
        configured=configured,
        overfit=overfit,
        range_test=tested,
        first_step=step[0],
        findings=_findings(trainer, step, overfit, tested, known),
        seconds={part: round(taken, 2) for part, taken in seconds.items()},
    )


def _findings(
    trainer: Trainer, step: tuple[dict[str, Any], dict[str, Any]], overfit: Overfit, tested: RangeTest, known: Known
) -> tuple[Found, ...]:
    """What the diseases make of it."""
    rate = float(trainer.optimizer.param_groups[0]["initial_lr"])
    evidence = TrainingEvidence(
        first=step[0],
        watched=[step[1]],
        settings={**known.settings, "training.learning_rate": rate},
        classes=known.classes,
        counts=known.counts,
        overfit=overfit.to_json(),
        range_test={**tested.to_json(), "judged": judged(tested, rate)},
    )
    return tuple(Found(one) for one in examine(evidence))


def judged(tested: RangeTest, rate: float) -> str:
    """As `RangeTest.judge`, and `none learns` where a test long enough to see it fall saw nothing but noise."""
    has_looked = bool(tested.rates) and not tested.ran_out and tested.steps_per_decade >= ENOUGH_STEPS
    if has_looked and tested.suggested is None and tested.reading.sureness < NO_FALL:
        return "none learns"
    return tested.judge(rate)


def probe_rows(probed: Probed) -> list[tuple[str, str, str]]:
    """What was tested, the result in a word or two, and its numbers."""
    rows: list[tuple[str, str, str]] = [_step_row(probed)] if probed.first_step else []
    overfit, tested, rate = probed.overfit, probed.range_test, float(probed.configured["learning_rate"])
    learnt = "learnt" if overfit.reached else "not in time" if overfit.ran_out else "NOT LEARNT"
    told = f"{overfit.examples} examples"
    if overfit.classes:
        told += f" of {counted(overfit.classes, 'class', 'classes')}"
    told += f", {counted(overfit.steps, 'step')}: loss {overfit.losses[0]:.3g} → {overfit.losses[-1]:.2g}"
    if overfit.accuracies:
        told += f", {overfit.accuracies[-1]:.0%} right"
    rows.append(("one batch by heart", learnt, told))
    told_of_rate = tested.judge(rate)
    result = {"usable": "usable", "unknown": "not known"}.get(told_of_rate, told_of_rate.upper())
    told = f"{rate:g} ({probed.configured['optimizer']}, highest of {probed.configured['schedule']})"
    rows.append(("configured learning rate", result, told))
    reading = tested.reading
    if reading.falls_from is not None and probed.suggested_rate is not None:
        end = f"blows up at {reading.blows_up_at:.2g}" if reading.blows_up_at else "does not blow up"
        told = f"the loss falls from {reading.falls_from:.2g} on, is lowest at {reading.lowest_at:.2g}, {end}"
        rows.append(("suggested learning rate", f"{probed.suggested_rate:g}", told))
    else:
        rows.append(("suggested learning rate", "none", tested.stop_reason))
    return rows


def _trainer(plan: Plan, device: torch.device) -> tuple[Trainer, Plan]:
    """What `train` would train, computed as this machine does it fastest; precision left at `auto` is fp32 here."""
    config, prepared = plan.config, plan.prepared
    description = describe_model(config, prepared)
    model = first_model(config, prepared, description["options"]).to(device)
    batches = build_batches(config, prepared, device)[0]
    training = config.settings.training
    measured = Measured(model, Model(description, next(iter(batches.epoch(0)))))
    way, told = measured.choose_safely(training.threads, training.channels_last)
    if training.precision in ("bf16", "fp16"):
        measured.require(training.precision)
    chosen: dict[str, tuple[Any, str]] = {
        "training.threads": (way.threads, told["threads"]),
        "training.channels_last": (way.channels_last, told["channels_last"]),
        "training.precision": ("fp32", "the rate hardly depends on it"),
        "training.compile": (False, "compiling would take longer than the probe"),
    }
    taken = {
        key: choice
        for key, choice in chosen.items()
        if key == "training.compile" or getattr(training, key.partition(".")[2]) == "auto"
    }
    for key, (value, reason) in taken.items():
        log.say(f"  {key}={readable_value(value)}   {reason}")
    config = config.with_chosen(taken)
    use_threads(config, device)
    trainer = build_trainer(config, prepared, model, (batches, batches))
    return trainer, replace(plan, config=config)


def _unchanged_examples(config: Config) -> dict[str, tuple[Any, str]]:
    """What makes every visit of an example the same, and its label certain."""
    why = "off for one batch by heart"
    names = type(config.settings.augmentation).model_fields
    off: dict[str, tuple[Any, str]] = {f"augmentation.{name}": ({"flip": False}.get(name, 0), why) for name in names}
    return {**off, "training.label_smoothing": (0.0, why)}


def _step_row(probed: Probed) -> tuple[str, str, str]:
    told = probed.first_step or {}
    parameters, inputs = told["parameters"], told["inputs"]
    stuck = sum(parameters[kind]["numbers"] for kind in ("frozen", "not_in_optimizer", "without_gradient"))
    shape = " × ".join(map(str, inputs.get("shape", ())))
    loss = told["scores"]["loss"]
    learn = f"{parameters['total'] - stuck:,} of {parameters['total']:,} parameters learn"
    numbers = f"inputs {shape}, loss {'no number' if loss is None else f'{loss:.3g}'}, {learn}"
    is_well = not stuck and loss is not None and not told["resting"]["count"]
    return ("one step", "works" if is_well else "LOOK", numbers)


def _known(plan: Plan) -> Known:
    settings = {key: value for key, value, _ in plan.config.rows()}
    options = describe_model(plan.config, plan.prepared)["options"]
    settings |= {f"model.{name}": value for name, value in options.items()}
    classes = plan.prepared.classes
    counts = {
        part: np.bincount(found.labels, minlength=len(classes)).tolist() for part, found in plan.prepared.parts.items()
    }
    return Known(settings, tuple(classes), counts)


def _written(probed: Probed, home: Path) -> Probed:
    from danlu.reporting.probe_page import write_probe

    make_folder(home)
    told = probed.to_json()
    write_json(home / "probe.json", told)
    write_probe(home / "probe.html", told, rows=probe_rows(probed), is_fine=probed.is_fine)
    return replace(probed, page=home / "probe.html")


@contextmanager
def _threads_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
