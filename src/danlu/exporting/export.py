"""The verb `export`: a run → a bundle, or files for another runtime, proven to answer as the run does; or nothing."""

from __future__ import annotations

import time
from pathlib import Path

from danlu.base import log
from danlu.base.bundle import ENGINES, is_bundle, workshop
from danlu.base.errors import ConfigError
from danlu.base.extras import require_extra
from danlu.base.files import remove_folder, replace_folder, write_json
from danlu.base.runs import Run, find_run
from danlu.exporting import FORMATS, VARIANTS
from danlu.exporting.engines import BATCH, measure_beside
from danlu.exporting.parity import EXAMPLES, Parity, prove_equal
from danlu.exporting.shipped import Shipped, table, write_table

MAX_DROP = 0.005
PROOF = "parity.json"


def export(
    place: Run | str | Path,
    format: str = "onnx",
    *,
    out: str | Path | None = None,
    max_drop: float = MAX_DROP,
) -> Path:
    """Export a run and return the folder: its `bundle`, or `exports/FORMAT` below it, or `out`.

    `format`: one of `danlu list formats`. What is written has answered for held-out examples, from their bytes or
    texts, as the trained model does; where one answer differs, `ModelError` says which, and what was there stays.
    `max_drop`: the share of accuracy an int8 variant may lose on validation examples.

    >>> export("runs/latest", "int8")     # doctest: +SKIP
    PosixPath('runs/latest/bundle')
    """
    require_extra("train", "an export")
    started = time.monotonic()
    exporter = FORMATS.load(format)
    run = place if isinstance(place, Run) else find_run(place)
    if not 0 <= max_drop < 1:
        raise ConfigError(f"`max_drop` is a share from 0 to below 1, got {max_drop:g}", hint="0.005 for half a point")
    if run.calibration() is None:
        raise ConfigError(f"`{run}` is not finished (state: {run.state()})", hint="train it to its end")
    home = run.bundle_folder if format in VARIANTS else run.exports_folder / format
    target = Path(out) if out is not None else home
    _require_free(target)
    built = workshop(target)
    try:
        if format in VARIANTS:
            made = exporter.build_bundle(run, built, VARIANTS[format], max_drop)
            parity = made.parity
            for line in made.told():
                log.say(line)
        else:
            parity, shipped = _file(run, format, built)
            for line in table(shipped):
                log.say(line)
        replace_folder(built, target)
    finally:
        remove_folder(built)
    gap = max(way.largest_gap for way in parity.ways)
    log.say(
        f"{format}: {target}; {parity.ways[0].examples:,} held-out examples are answered as by the trained model in"
        f" {len(parity.ways)} ways, probabilities differ by up to {gap:.1g} ({time.monotonic() - started:.1f} s)"
    )
    return target


def _file(run: Run, format: str, folder: Path) -> tuple[Parity, tuple[Shipped, Shipped]]:
    from danlu.exporting.exported import exported_of
    from danlu.exporting.held_out import MOST_VALIDATION, held_out
    from danlu.exporting.variants import accuracy_of, answering_by, batch_of
    from danlu.prediction.predictor import load

    trained = load(run)
    exported = exported_of(run)
    engine = FORMATS.load(format).write(exported, folder, run.name, trained.classes)
    whole = answering_by(trained, engine)
    examples = held_out(run, ("test", "validation"), EXAMPLES)
    parity = prove_equal(trained, whole, examples)
    validation = held_out(run, ("validation",), MOST_VALIDATION)
    before, after = measure_beside(trained.engine, engine, batch_of(examples.inputs[:BATCH]))
    parameters = sum(value.numel() * value.element_size() for value in exported.model.state_dict().values())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shipped = (
        Shipped("trained", parameters, accuracy_of(trained, validation), before),
        Shipped(format, size, accuracy_of(whole, validation), after),
    )
    write_table(folder / ENGINES, shipped)
    write_json(folder / PROOF, parity.to_json())
    return parity, shipped


def _require_free(target: Path) -> None:
    """A folder that is there may be replaced when danlu made it, or it is empty."""
    if target.is_dir() and (is_bundle(target) or (target / PROOF).is_file() or not any(target.iterdir())):
        return
    if target.is_symlink() or target.exists():
        raise ConfigError(f"`{target}` exists and is no export", hint="name another folder with `--out`")
