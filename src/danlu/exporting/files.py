"""A run as files for another runtime, with what is needed to use them: preprocessing, classes, calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from danlu.base.bundle import CARD, ENGINES, EXPORTED, PARITY, PREPROCESSING
from danlu.base.files import write_json, write_text
from danlu.base.runs import Run
from danlu.exporting import FORMATS
from danlu.exporting.bundling import saved_weights
from danlu.exporting.engines import BATCH, measure_beside
from danlu.exporting.exported import exported_of
from danlu.exporting.held_out import MOST_VALIDATION, held_out
from danlu.exporting.interface import interface
from danlu.exporting.parity import EXAMPLES, prove_equal
from danlu.exporting.shipped import Made, Shipped, write_table
from danlu.exporting.variants import accuracy_of, answering_by, batch_of
from danlu.prediction.predictor import load


def build_files(run: Run, folder: Path, format: str) -> Made:
    """Fill `folder`. Raises `ModelError` where the model cannot be written so, or answers otherwise."""
    trained = load(run)
    engine = FORMATS.load(format).write(exported_of(run), folder, run.name, trained.classes)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    whole = answering_by(trained, engine)
    examples = held_out(run, ("test", "validation"), EXAMPLES)
    parity = prove_equal(trained, whole, examples)
    validation = held_out(run, ("validation",), MOST_VALIDATION)
    before, after = measure_beside(trained.engine, engine, batch_of(examples.inputs[:BATCH]))
    shipped = (
        Shipped("trained", len(saved_weights(run)), accuracy_of(trained, validation), before),
        Shipped(format, size, accuracy_of(whole, validation), after),
    )
    made = Made(parity, shipped, len(validation))
    description, calibration = run.model(), run.calibration() or {}
    about = {"exported": format, "run": run.name, "kind": trained.kind, "classes": list(trained.classes)}
    write_json(folder / EXPORTED, {"format": 1, **about, "temperature": calibration["temperature"]})
    write_json(folder / PREPROCESSING, description["preprocessing"])
    write_table(folder / ENGINES, made)
    write_json(folder / PARITY, parity.to_json())
    lines = interface(trained.kind, calibration["temperature"], description["preprocessing"])
    head = [f"# {run.name}", "", f"{FORMATS.members[format].description}. Classes and temperature: `{EXPORTED}`.", ""]
    write_text(folder / CARD, "\n".join([*head, *lines]))
    return made


def told_of(folder: Path) -> dict[str, Any] | None:
    """What the mark of an export says; None where there is none."""
    try:
        return dict(json.loads((folder / EXPORTED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
