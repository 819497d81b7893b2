"""The verb `export`: a run → a bundle that is proven equal, or nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from danlu.base import log
from danlu.base.bundle import (
    CARD,
    ENGINES,
    PARITY,
    PREPROCESSING,
    REFERENCE,
    WEIGHTS,
    Bundle,
    is_bundle,
    open_bundle,
    workshop,
    write_file,
    write_mark,
)
from danlu.base.errors import ConfigError
from danlu.base.extras import require_extra
from danlu.base.files import remove_folder, replace_folder, write_json, write_text
from danlu.base.runs import Run, find_run
from danlu.exporting.card import card
from danlu.exporting.engines import measure_engines
from danlu.exporting.held_out import held_out
from danlu.exporting.parity import EXAMPLES, prove_equal
from danlu.exporting.reference import reference_statistics
from danlu.inputs.texts import pad_rows
from danlu.prediction.onnx_engine import HowToRun, OnnxEngine
from danlu.prediction.predictor import load, load_bundle

MODEL = "model.onnx"
MOST_REFERENCE = 5000


def export(place: Run | str | Path, *, out: str | Path | None = None) -> Bundle:
    """Make the bundle of a run: in the run, or at `out`.

    The ONNX file answers for held-out examples, from their bytes or texts, before anything is put in place; where one
    answer differs, `ModelError` says which, and what was there stays.

    >>> export("runs/latest").kind     # doctest: +SKIP
    'images'
    """
    require_extra("train", "an export")
    from danlu.exporting.exported import exported_of
    from danlu.exporting.onnx_format import onnx_bytes

    started = time.monotonic()
    run = place if isinstance(place, Run) else find_run(place)
    if run.calibration() is None:
        raise ConfigError(f"`{run}` is not finished (state: {run.state()})", hint="train it to its end")
    target = Path(out) if out is not None else run.bundle_folder
    _require_free(target)
    built = workshop(target)
    try:
        trained = load(run)
        model = onnx_bytes(exported_of(run))
        write_file(built, MODEL, model)
        write_file(built, WEIGHTS, _weights(run))
        write_json(built / PREPROCESSING, run.model()["preprocessing"])
        examples = held_out(run, ("test", "validation"), EXAMPLES)
        kind, classes = trained.kind, trained.classes

        def opened(how: HowToRun) -> OnnxEngine:
            return OnnxEngine(model, name=MODEL, kind=kind, num_classes=len(classes), how=how)

        rows = examples.inputs[:64]
        table, best = measure_engines(
            {"fp32": opened}, trained.engine, rows if isinstance(rows, np.ndarray) else pad_rows(rows)
        )
        write_json(built / ENGINES, {"format": 1, "ways": [row.to_json() for row in table]})
        content = _content(run, trained.classes, best)
        first = write_mark(built, content)
        parity = prove_equal(trained, load_bundle(first), examples)
        write_json(built / PARITY, parity.to_json())
        validation = held_out(run, ("validation",), MOST_REFERENCE)
        write_json(built / REFERENCE, reference_statistics(load_bundle(first), validation.inputs))
        write_text(built / CARD, card(content, _facts(run), run.evaluation()))
        write_mark(built, content)
        replace_folder(built, target)
    finally:
        remove_folder(built)
    gap = max(way.largest_gap for way in parity.ways)
    log.say(
        f"bundle: {target} ({len(model) / 1e6:.1f} MB, {len(examples):,} held-out examples answered as by the trained"
        f" model in {len(parity.ways)} ways, largest difference {gap:.1g}, {time.monotonic() - started:.1f} s)"
    )
    return open_bundle(target)


def _require_free(target: Path) -> None:
    """A folder that is there may be replaced when it is a bundle, or empty."""
    if target.is_dir() and (is_bundle(target) or not any(target.iterdir())):
        return
    if target.is_symlink() or target.exists():
        raise ConfigError(f"`{target}` exists and is no bundle", hint="name another folder with `--out`")


def _content(run: Run, classes: Sequence[str], best: dict[str, HowToRun]) -> dict[str, Any]:
    from danlu import __version__

    description = run.model()
    return {
        "kind": description["kind"],
        "classes": list(classes),
        "calibration": {key: value for key, value in (run.calibration() or {}).items() if key != "format"},
        "variants": {"fp32": {"file": MODEL, "how": asdict(best["fp32"])}},
        "default": "fp32",
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

    return save(
        {name: value.contiguous() for name, value in load_checkpoint(run.checkpoints_folder, "best").tensors.items()}
    )
