"""The verb `export`: a run → a bundle, or files for another runtime, proven to answer as the run does; or nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.base import log
from danlu.base.bundle import Bundle, is_bundle, open_bundle, workshop
from danlu.base.errors import ConfigError, ModelError
from danlu.base.extras import require_extra
from danlu.base.files import remove_folder, replace_folder
from danlu.base.runs import Run, find_run
from danlu.exporting import FORMATS, VARIANTS

if TYPE_CHECKING:
    from danlu.exporting.shipped import Made

MAX_DROP = 0.005


def export(
    place: Run | str | Path,
    format: str = "onnx",
    *,
    out: str | Path | None = None,
    max_drop: float | None = None,
) -> Path:
    """Export a run and return the folder: its `bundle`, or `exports/FORMAT` below it, or `out`.

    `format`: one of `danlu list formats`. fp32 has answered for held-out examples, from their bytes or texts, as the
    trained model does; where one answer differs, `ModelError` says which, and what was there stays. An int8 variant
    answers otherwise: `max_drop` is the share of accuracy it may lose on validation examples, 0.005 when left open.

    >>> export("runs/latest", "int8")     # doctest: +SKIP
    PosixPath('runs/latest/bundle')
    """
    require_extra("train", "an export")
    started = time.monotonic()
    FORMATS.load(format)
    run = place if isinstance(place, Run) else find_run(place)
    _check_drop(format, max_drop)
    if (state := run.state()) != "finished" or run.calibration() is None:
        raise ConfigError(f"`{run}` is not finished (state: {state})", hint="train it to its end")
    home = run.bundle_folder if format in VARIANTS else run.exports_folder / format
    if out == "":
        raise ConfigError("the folder to write has no name", hint="`.` is this folder")
    target = _resolved(Path(out)) if out is not None else home
    if target != home:
        _require_free(target, run, format)
    before = _readable_bundle(target)
    with run.hold():
        made = _built(run, format, target, MAX_DROP if max_drop is None else max_drop)
    for line in made.told():
        log.say(line)
    gone = [name for name in (before.variants if before else ()) if name not in ("fp32", *VARIANTS[format])]
    replaced = f"; it replaces a bundle that had {' and '.join(gone)} too" if gone else ""
    log.say(f"{format}: {target} ({time.monotonic() - started:.1f} s){replaced}")
    return target


def _built(run: Run, format: str, target: Path, max_drop: float) -> Made:
    """Build beside `target`, which is replaced only by what is proven."""
    built = workshop(target)
    try:
        if format in VARIANTS:
            made: Made = FORMATS.load(format).build_bundle(run, built, VARIANTS[format], max_drop)
        else:
            from danlu.exporting.files import build_files

            made = build_files(run, built, format)
        replace_folder(built, target)
    finally:
        remove_folder(built)
    return made


def _resolved(out: Path) -> Path:
    """What a link names, and a name for `.`: a folder is replaced by its name."""
    return out.resolve() if out.is_symlink() or not out.name else out


def _check_drop(format: str, max_drop: float | None) -> None:
    if max_drop is None:
        return
    if not VARIANTS.get(format):
        raise ConfigError(f"{format} loses no accuracy: `max_drop` is for int8 and dynamic-int8")
    if not 0 <= max_drop < 1:
        got = f"{max_drop:g} ({100 * max_drop:g} %)"
        raise ConfigError(f"`max_drop` is a share from 0 to below 1, got {got}", hint="0.005 for half a point")


def _require_free(target: Path, run: Run, format: str) -> None:
    """What was exported from this run in this way is replaced. Raises `ConfigError` where something else is there."""
    from danlu.exporting.files import told_of

    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    what = "exists and is no export"
    if is_bundle(target):
        bundle = _readable_bundle(target)
        if bundle is not None and format in VARIANTS and bundle.content.get("run") == run.name:
            if not (others := bundle.others()):
                return
            what = f"holds `{others[0]}`, which is not of the bundle"
        else:
            what = f"is the bundle of `{bundle.content.get('run')}`" if bundle else "is a damaged bundle"
    elif (told := told_of(target)) is not None:
        if (told.get("exported"), told.get("run")) == (format, run.name):
            return
        what = f"is `{told.get('run')}` as {told.get('exported')}"
    raise ConfigError(f"`{target}` {what}", hint="name another folder with `--out`, or delete this one")


def _readable_bundle(target: Path) -> Bundle | None:
    if not is_bundle(target):
        return None
    try:
        return open_bundle(target)
    except ModelError:
        return None
