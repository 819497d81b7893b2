"""The examples of one part of a run, found again by their keys."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from danlu.base.config import read_config
from danlu.base.errors import DataError, ModelError
from danlu.base.runs import Run
from danlu.data.split import ManifestRow, read_manifest
from danlu.sources.examples import Examples
from danlu.sources.recognize import read_examples


def changed_keys(rows: Sequence[ManifestRow], kept: np.ndarray, hashes: Sequence[str]) -> list[str]:
    """Keys of the examples whose content is no longer that of their row. `kept`: the places of `hashes` in `rows`."""
    return [rows[i].key for i, digest in zip(kept, hashes, strict=True) if not digest.startswith(rows[i].sha256)]


def own_part(run: Run, part: str) -> tuple[Examples, list[ManifestRow]]:
    """The examples the manifest of a run puts into `part`, and their rows, in the same order.

    Raises `DataError` when there are none or some are gone. Their content is not compared: whoever decodes them does.
    """
    status = run.status()
    rows = [row for row in read_manifest(run.manifest_file) if row.part == part]
    expected = status.get("parts", {}).get(part, 0)
    if len(rows) != expected:
        raise ModelError(
            f"`{run.manifest_file}` has {len(rows):,} {part} examples, the run had {expected:,}: it is damaged",
            hint="put back the file as the run wrote it",
        )
    if not rows:
        raise DataError(f"`{run}` has no {part} part", hint=f"`danlu evaluate {run} --data DATA` scores other examples")
    data = status["data"]
    if os.path.isabs(data) and not os.path.exists(data):
        raise DataError(
            f"the data of `{run}` is gone: `{data}`",
            hint=f"put it back; to score other examples: `danlu evaluate {run} --data DATA`",
        )
    examples = read_examples(data, read_config(run.config_file).settings.data)
    place = {key: index for index, key in enumerate(examples.keys)}
    missing = [row.key for row in rows if row.key not in place]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(rows):,} {part} examples are gone from `{data}`, first: `{missing[0]}`",
            hint="put back what is gone; an evaluation of other data: `--data DATA`",
        )
    return examples.select(np.array([place[row.key] for row in rows])), rows
