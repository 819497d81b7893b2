"""Everything in a bundle, built in a folder that nobody uses yet: model, variants, proofs, measurements, card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from danlu.base.bundle import CARD, ENGINES, PARITY, PREPROCESSING, REFERENCE, WEIGHTS, write_file, write_mark
from danlu.base.files import write_json, write_text
from danlu.base.machine import available_cores
from danlu.base.runs import Run
from danlu.exporting.card import card
from danlu.exporting.engines import BATCH, Fastest, measure_engines
from danlu.exporting.held_out import MOST_VALIDATION, held_out
from danlu.exporting.parity import EXAMPLES, prove_equal, prove_shipped
from danlu.exporting.reference import reference_statistics
from danlu.exporting.shipped import Made, Shipped, write_table
from danlu.exporting.variants import Candidate, accuracy_of, batch_of, candidates, change_of, judged, judged_as_run
from danlu.prediction.predictor import load, load_bundle

MOST_TEST = 10_000
MOST_DIRECTIONS = 2_048
CLEARLY_FASTER = 1.1
FILE = {"fp32": "model.onnx", "int8": "model.int8.onnx", "dynamic-int8": "model.dynamic-int8.onnx"}


def build_bundle(run: Run, folder: Path, variants: Sequence[str], max_drop: float) -> Made:
    """Fill `folder` with the bundle of a run. `variants`: `int8`, `dynamic-int8`, beside fp32.

    Raises `ModelError` where fp32 does not answer as the trained model does, or a variant loses more than `max_drop`
    of accuracy on validation examples that did not calibrate it.
    """
    from danlu.exporting.exported import exported_of
    from danlu.exporting.onnx_format import onnx_bytes

    trained = load(run)
    examples = held_out(run, ("test", "validation"), EXAMPLES)
    validation = held_out(run, ("validation",), MOST_VALIDATION)
    whole = Candidate("fp32", "fp32", onnx_bytes(exported_of(run)), trained)
    tried = candidates(variants, whole, validation, max_drop)
    ways, fastest = measure_engines(
        {one.made_as: one.open for group in tried.values() for one in group},
        trained.engine,
        batch_of(examples.inputs[:BATCH]),
    )
    scored = judged(validation) if variants else validation
    chosen = {name: min(group, key=lambda one: fastest[one.made_as].cost) for name, group in tried.items()}
    for name, one in chosen.items():
        chosen[name] = judged_as_run(one, fastest[one.made_as].how, whole, scored, max_drop)
    default, why = _default(chosen, fastest, max_drop)
    content = {**_content(run), "default": default, "variants": _variants(chosen)}
    weights = saved_weights(run)
    right = accuracy_of(whole.predictor(), scored)
    shipped = [Shipped("trained", len(weights), accuracy_of(trained, scored), ways[-1])]
    for name, one in chosen.items():
        share = one.change.accuracy if one.change else right
        shipped.append(Shipped(name, len(one.data), share, fastest[one.made_as].row))
        write_file(folder, FILE[name], one.data)
    write_file(folder, WEIGHTS, weights)
    train = held_out(run, ("train",), MOST_DIRECTIONS)
    statistics = reference_statistics(chosen[default].predictor(), validation.inputs, train.inputs)
    write_json(folder / REFERENCE, statistics.to_json())
    told = _told(run, chosen, max_drop)
    preprocessing = run.model()["preprocessing"]
    write_json(folder / PREPROCESSING, preprocessing)
    write_text(folder / CARD, card(content, preprocessing, _facts(run), run.evaluation(), told))
    bundle = write_mark(folder, content)
    parity = prove_equal(trained, load_bundle(bundle, "fp32"), examples)
    for name in variants:
        prove_shipped(chosen[name].predictor(), load_bundle(bundle, name), examples)
    write_json(folder / PARITY, {**parity.to_json(), "variants": told})
    changes = {name: one.change for name, one in chosen.items() if one.change}
    made = Made(parity, tuple(shipped), len(scored), changes, default, why)
    write_table(folder / ENGINES, made, ways)
    write_mark(folder, content)
    return made


def _default(chosen: Mapping[str, Candidate], fastest: Mapping[str, Fastest], max_drop: float) -> tuple[str, str]:
    """The variant that answers, and why: another than fp32 has to be clearly faster, and its loss to be known."""
    costs = {name: fastest[one.made_as].cost for name, one in chosen.items()}
    name = min(costs, key=lambda variant: costs[variant])
    times = costs["fp32"] / costs[name]
    change = chosen[name].change
    if change is None or times < CLEARLY_FASTER:
        return "fp32", f"no other is {CLEARLY_FASTER:g} times as fast here"
    if change.examples * max_drop < 1:
        needed = f"; {math.ceil(1 / max_drop):,} could" if max_drop else ""
        why = f"{change.examples:,} validation examples cannot tell a loss of {100 * max_drop:g} points{needed}"
        return "fp32", f"{why} (`danlu predict --variant {name}` asks the other)"
    return name, f"{times:.1f} times as fast as fp32 here, one and 64 at a time taken together"


def _variants(chosen: dict[str, Candidate]) -> dict[str, Any]:
    return {
        name: {"file": FILE[name], "how": asdict(one.how), "size_bytes": len(one.data)} for name, one in chosen.items()
    }


def _told(run: Run, chosen: dict[str, Candidate], max_drop: float) -> dict[str, Any]:
    """What is known of the variants beside fp32; the test part chooses nothing, it is only told."""
    changed = {name: one for name, one in chosen.items() if one.change}
    test = held_out(run, ("test",), MOST_TEST) if changed and run.status()["parts"].get("test") else None
    whole = chosen["fp32"].predictor()
    return {
        name: {
            "as": one.made_as,
            "limit": max_drop,
            "validation": one.change.to_json() if one.change else None,
            "test": change_of(whole, one.predictor(), test).to_json() if test is not None else None,
        }
        for name, one in changed.items()
    }


def _content(run: Run) -> dict[str, Any]:
    from danlu import __version__

    description = run.model()
    return {
        "run": run.name,
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


def saved_weights(run: Run) -> bytes:
    """The best weights as a safetensors file."""
    from safetensors.torch import save

    from danlu.training.checkpoints import load_checkpoint

    tensors = load_checkpoint(run.checkpoints_folder, "best").tensors
    return save({name: value.contiguous() for name, value in tensors.items()})
