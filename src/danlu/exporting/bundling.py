"""Everything in a bundle, built in a folder that nobody uses yet: model, variants, proofs, measurements, card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base.bundle import CARD, ENGINES, PARITY, PREPROCESSING, REFERENCE, WEIGHTS, write_file, write_mark
from danlu.base.errors import DataError, ModelError
from danlu.base.files import write_json, write_text
from danlu.base.machine import available_cores, environment
from danlu.base.runs import Run
from danlu.exporting.card import card
from danlu.exporting.engines import Measured, measure_engines
from danlu.exporting.held_out import HeldOut, held_out
from danlu.exporting.parity import EXAMPLES, Parity, prove_equal
from danlu.exporting.reference import reference_statistics
from danlu.inputs.texts import pad_rows
from danlu.prediction.onnx_engine import HowToRun, OnnxEngine
from danlu.prediction.predictor import Predictor, load, load_bundle
from danlu.scores.comparison import paired_difference

MOST_VALIDATION = 5000
MOST_TEST = 10_000
CALIBRATED_FROM = 512
BATCH = 64
FILE = {"fp32": "model.onnx", "int8": "model.int8.onnx", "dynamic-int8": "model.dynamic-int8.onnx"}


@dataclass(frozen=True)
class Shipped:
    """What answers, the trained model or a variant: its size, its accuracy on validation examples and its speed."""

    variant: str
    size_bytes: int
    accuracy: float
    speed: Measured


@dataclass(frozen=True)
class Built:
    """What was proven and measured of a bundle, for those who made it."""

    parity: Parity
    shipped: tuple[Shipped, ...]
    default: str

    def told(self) -> list[str]:
        """The table of what is shipped beside the trained model, and which variant answers."""
        head = f"  {'model':<14} {'runs on':<12} {'threads':>7} {'MB':>7} {'accuracy':>9}"
        lines = [f"{head} {'ms for one':>11} {'a second, by 64':>16}"]
        for row in self.shipped:
            threads = str(row.speed.threads) if row.speed.threads else "-"
            lines.append(
                f"  {row.variant:<14} {row.speed.engine:<12} {threads:>7} {row.size_bytes / 1e6:>7.2f}"
                f" {row.accuracy:>9.2%} {row.speed.p50_ms:>11.3f} {row.speed.per_second:>16,.0f}"
            )
        if len(self.shipped) > 2:
            lines.append(f"  {self.default} answers: the fastest here")
        return lines


def build_bundle(run: Run, folder: Path, variants: Sequence[str], max_drop: float) -> Built:
    """Fill `folder` with the bundle of a run. `variants`: `int8`, `dynamic-int8`, beside fp32.

    Raises `ModelError` where fp32 does not answer as the trained model does, or a variant loses more than `max_drop`
    of accuracy on validation examples that did not calibrate it.
    """
    from danlu.exporting.exported import exported_of
    from danlu.exporting.onnx_format import onnx_bytes

    trained = load(run)
    examples = held_out(run, ("test", "validation"), EXAMPLES)
    validation = held_out(run, ("validation",), MOST_VALIDATION)
    model = onnx_bytes(exported_of(run))
    open_ = partial(OnnxEngine, kind=trained.kind, num_classes=len(trained.classes))
    whole = _with(trained, open_(model, name=FILE["fp32"]))
    candidates = {"fp32": {"fp32": model}, **{name: _candidates(name, model, validation) for name in variants}}
    changes: dict[str, Any] = {}
    for name in variants:
        for candidate, data in candidates[name].items():
            changes[candidate] = _change(whole, _with(trained, open_(data, name=candidate)), _judged(validation))
        candidates[name] = {key: candidates[name][key] for key in _accepted(candidates[name], changes, max_drop)}
    openers: dict[str, Callable[[HowToRun], OnnxEngine]] = {
        candidate: partial(_opened, open_, data, candidate)
        for group in candidates.values()
        for candidate, data in group.items()
    }
    table, fastest = measure_engines(openers, trained.engine, _rows(examples.inputs[:BATCH]))
    chosen = {name: min(group, key=lambda candidate: fastest[candidate].cost) for name, group in candidates.items()}
    test = held_out(run, ("test",), MOST_TEST) if variants and run.status()["parts"].get("test") else None
    told: dict[str, Any] = {}
    for name, candidate in chosen.items():
        write_file(folder, FILE[name], data := candidates[name][candidate])
        if name != "fp32":
            engine = _with(trained, open_(data, name=FILE[name]))
            told[name] = {
                "as": candidate,
                "limit": max_drop,
                "validation": changes[candidate],
                "test": _change(whole, engine, test) if test is not None else None,
            }
    default = min(chosen, key=lambda name: fastest[chosen[name]].cost)
    content = {
        **_content(run),
        "variants": {
            name: {
                "file": FILE[name],
                "how": asdict(fastest[candidate].how),
                "size_bytes": len(candidates[name][candidate]),
            }
            for name, candidate in chosen.items()
        },
        "default": default,
    }
    write_json(folder / PREPROCESSING, run.model()["preprocessing"])
    weights = _weights(run)
    write_file(folder, WEIGHTS, weights)
    accuracy = float((whole.probabilities(validation.inputs).argmax(1) == validation.labels).mean())
    shipped = [Shipped("trained", len(weights), accuracy, table[-1])]
    for name, candidate in chosen.items():
        size = len(candidates[name][candidate])
        speed = fastest[candidate].row
        shipped.append(Shipped(name, size, changes[candidate]["accuracy"] if name != "fp32" else accuracy, speed))
    write_json(
        folder / ENGINES,
        {
            "format": 1,
            "batch": BATCH,
            "machine": environment(),
            "shipped": [asdict(row) for row in shipped],
            "ways": [asdict(row) for row in table],
        },
    )
    write_json(folder / REFERENCE, reference_statistics(whole, validation.inputs))
    write_text(folder / CARD, card(content, _facts(run), run.evaluation()))
    parity = prove_equal(trained, load_bundle(write_mark(folder, content), "fp32"), examples)
    write_json(folder / PARITY, {**parity.to_json(), "variants": told})
    write_mark(folder, content)
    return Built(parity, tuple(shipped), default)


def _opened(open_: Callable[..., OnnxEngine], data: bytes, name: str, how: HowToRun) -> OnnxEngine:
    return open_(data, name=name, how=how)


def _with(trained: Predictor, engine: OnnxEngine) -> Predictor:
    return Predictor(trained.kind, trained.classes, trained.recipe, engine, trained.calibration)


def _rows(inputs: Any) -> np.ndarray:
    return inputs if isinstance(inputs, np.ndarray) else pad_rows(inputs)


def _halves(examples: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Every second example, 512 at most, to take ranges from, and the others."""
    places = np.arange(len(examples))
    return places[::2][:CALIBRATED_FROM], places[1::2]


def _judged(validation: HeldOut) -> HeldOut:
    chosen = _halves(validation)[1]
    if not len(chosen):
        raise DataError("one validation example is too few: int8 needs some to take ranges from and others to judge")
    return validation.select(chosen)


def _candidates(name: str, model: bytes, validation: HeldOut) -> dict[str, bytes]:
    """The ways to make a variant, of which measuring chooses."""
    from danlu.exporting.int8 import dynamic_int8_bytes, int8_bytes

    if name == "dynamic-int8":
        return {"dynamic-int8": dynamic_int8_bytes(model)}
    calibrating = validation.select(_halves(validation)[0])
    batches = [_rows(calibrating.inputs[start : start + BATCH]) for start in range(0, len(calibrating), BATCH)]
    return {
        "int8, u8 activations": int8_bytes(model, batches, signed_activations=False),
        "int8, s8 activations": int8_bytes(model, batches, signed_activations=True),
    }


def _change(whole: Predictor, variant: Predictor, examples: HeldOut) -> dict[str, Any]:
    """What a variant changes on these examples: accuracy with its 95 % interval, labels and probabilities."""
    before, after = whole.probabilities(examples.inputs), variant.probabilities(examples.inputs)
    labels = examples.labels
    difference = paired_difference(after.argmax(1) == labels, before.argmax(1) == labels)
    return {
        "examples": len(labels),
        "accuracy": float((after.argmax(1) == labels).mean()),
        "change": difference.accuracy,
        "change_interval": list(difference.interval),
        "same_labels": int((after.argmax(1) == before.argmax(1)).sum()),
        "largest_gap": float(np.abs(after - before).max()),
    }


def _accepted(candidates: dict[str, bytes], changes: dict[str, Any], max_drop: float) -> list[str]:
    kept = [name for name in candidates if changes[name]["change"] >= -max_drop]
    if not kept:
        name = max(candidates, key=lambda candidate: changes[candidate]["change"])
        low, high = changes[name]["change_interval"]
        raise ModelError(
            f"{name} changes accuracy by {100 * changes[name]['change']:+.2f} points (95 % interval {100 * low:+.2f} to"
            f" {100 * high:+.2f}) on {changes[name]['examples']:,} validation examples, the limit is"
            f" {-100 * max_drop:.2f}",
            hint="nothing was written; `--max-drop 2%` allows more",
        )
    return kept


def _content(run: Run) -> dict[str, Any]:
    from danlu import __version__

    description = run.model()
    return {
        "kind": description["kind"],
        "classes": description["classes"],
        "calibration": {key: value for key, value in (run.calibration() or {}).items() if key != "format"},
        "cores": available_cores(),
        "architecture": {key: description[key] for key in ("name", "options", "example_shape")},
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "danlu": __version__,
    }


def _facts(run: Run) -> dict[str, Any]:
    status = run.status()
    data = status["data"]
    return {
        "name": run.name,
        "data": Path(data).name if Path(data).is_absolute() else data,  # where it lies is nobody else's business
        "parts": status["parts"],
        "model": status["model"],
    }


def _weights(run: Run) -> bytes:
    from safetensors.torch import save

    from danlu.training.checkpoints import load_checkpoint

    tensors = load_checkpoint(run.checkpoints_folder, "best").tensors
    return save({name: value.contiguous() for name, value in tensors.items()})
