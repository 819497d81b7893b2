"""Examples of a run's parts, as their files or texts are, for the proofs and the statistics of an export."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from danlu.base.config import read_config
from danlu.base.errors import DataError
from danlu.base.runs import Run
from danlu.checks.finding import counted
from danlu.data.own_part import changed_keys, own_part
from danlu.data.prepare import check_unreadable, encode_examples
from danlu.prediction.predictor import recipe_of
from danlu.sources.examples import index_labels

MOST_VALIDATION = 5000


@dataclass(frozen=True)
class HeldOut:
    """`items`: the file of each image, or its bytes where it is in none, or each text. `inputs`: the same as training
    prepares them, (N, channels, height, width) uint8 or lists of token numbers. `labels`: (N,) int64."""

    keys: tuple[str, ...]
    items: tuple[Any, ...]
    inputs: Any
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, chosen: np.ndarray) -> HeldOut:
        """The examples at these places."""
        inputs = self.inputs[chosen] if isinstance(self.inputs, np.ndarray) else [self.inputs[i] for i in chosen]
        keys, items = tuple(self.keys[i] for i in chosen), tuple(self.items[i] for i in chosen)
        return HeldOut(keys, items, inputs, self.labels[chosen])


def held_out(run: Run, parts: Sequence[str], most: int) -> HeldOut:
    """Up to `most` examples of these parts, in the order of the parts, spread evenly over each part."""
    description = run.model()
    settings = read_config(run.config_file).settings.data
    found: list[HeldOut] = []
    for part in parts:
        wanted = most - sum(map(len, found))
        if wanted <= 0 or not run.status().get("parts", {}).get(part):
            continue
        examples, rows = own_part(run, part)
        places = np.unique(np.linspace(0, len(rows) - 1, min(wanted, len(rows))).round().astype(np.int64))
        examples, rows = examples.select(places), [rows[i] for i in places]
        encoded = encode_examples(examples, recipe_of(description), use_cache=False)
        check_unreadable(run.status()["data"], encoded.problems, len(rows), settings)
        kept = encoded.part.indices
        changed = changed_keys(rows, kept, encoded.hashes)
        if changed:
            raise DataError(
                f"{counted(len(changed), f'{part} example has', f'{part} examples have')} changed since training,"
                f" first: `{changed[0]}`",
                hint="train again with the data as it is now",
            )
        found.append(
            HeldOut(
                tuple(rows[i].key for i in kept),
                tuple(_as_sent(examples.items[i], examples.kind) for i in kept),
                encoded.part.inputs,
                index_labels([rows[i].label for i in kept], tuple(description["classes"])),
            )
        )
    if not found:
        raise DataError(f"`{run}` has no example that it has not learnt from: nothing can be proven equal")
    if isinstance(found[0].inputs, list):
        inputs: Any = [row for one in found for row in one.inputs]
    else:
        inputs = np.concatenate([one.inputs[:] for one in found])
    return HeldOut(
        tuple(key for one in found for key in one.keys),
        tuple(item for one in found for item in one.items),
        inputs,
        np.concatenate([one.labels for one in found]),
    )


def _as_sent(item: Any, kind: str) -> Any:
    """A file, or a text. Pixels that are in no file become the bytes of a PNG, which keeps each of them."""
    if kind == "texts" or not isinstance(item, np.ndarray):
        return str(item)
    out = io.BytesIO()
    Image.fromarray(item[..., 0] if item.ndim == 3 and item.shape[2] == 1 else item).save(out, "PNG")
    return out.getvalue()
