"""`danlu.explain`: what the answers of a run rest on."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from danlu.base.errors import ConfigError, UnreadableItem
from danlu.base.extras import require_extra
from danlu.base.files import write_sealed_json
from danlu.base.registry import nearest_names
from danlu.base.runs import Run, find_run
from danlu.inputs.images import ImageRecipe, normalize
from danlu.inputs.texts import TextRecipe, clean_text
from danlu.prediction.answers import UNKNOWN
from danlu.prediction.predictor import Predictor, load, name_of

if TYPE_CHECKING:
    from torch import nn

    from danlu.prediction.torch_engine import TorchEngine

FORMAT = 1
AT_ONCE = 32
GALLERY_SIDE = 112
LARGE_GAP = 0.05


@dataclass(frozen=True)
class Explanation:
    """What speaks for `explained`, the class of the answer unless another was asked for.

    `answer` and `confidence` are those of `Predictor.predict`: calibrated, `unknown` below the run's threshold.
    `method` says in words what was computed, `note` what to beware of.

    Images: `heat` (height, width) float32 from 0 to 1 at the model's input size, and `pixels`
    (channels, height, width) uint8, what the model sees. Texts: `tokens`, each as it stands in the text with its
    weight, positive where it speaks for the class, the largest 1 or −1; 1 stands for `largest` logits. `change` is by
    how many logits the text moves the class from where a text of `<pad>` leaves it, and `gap` by how many the sum of
    all attributions misses that.

    With `error` the input could not be read, and the rest is empty.
    """

    input: str
    answer: str | None = None
    confidence: float | None = None
    explained: str | None = None
    method: str = ""
    heat: np.ndarray | None = None
    pixels: np.ndarray | None = None
    tokens: tuple[tuple[str, float], ...] | None = None
    largest: float | None = None
    change: float | None = None
    gap: float | None = None
    note: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Read:
    """One input the model can take, its calibrated probabilities and the class to explain."""

    item: Any
    inputs: Any
    probabilities: np.ndarray
    target: int


def explain(
    run: str | Path | Run,
    inputs: Sequence[Any] | str | Path,
    *,
    label: str | None = None,
    method: str | None = None,
) -> list[Explanation]:
    """Where the model looked: heat maps of images, weights of the tokens of texts; one explanation an input, in order.

    `inputs` as for `Predictor.predict`; one that cannot be read has `error` and harms no other. `label` is the class
    to explain instead of the answer.

    Images: HiResCAM (Draelos and Carin, 2020, arXiv:2011.08891), or with `method="gradcam"` Grad-CAM at the last
    convolution (Selvaraju et al., 2017, arXiv:1610.02391); a model without convolutions: integrated gradients on the
    pixels. Texts: integrated gradients on the embeddings (Sundararajan et al., 2017, arXiv:1703.01365); for `ngrams`
    the exact sum. An explanation shows what the model used, not what is true of the picture or the text.

    Raises `ConfigError` for an unknown run, class or method and `MachineError` without captum.

    >>> explain("runs/latest", "很快，好吃")[0].tokens        # doctest: +SKIP
    (('很', 0.4), ('快', 1.0), ('，', 0.1), ('好', 0.7), ('吃', 0.6))
    """
    items = [inputs] if isinstance(inputs, (str, Path, bytes, np.ndarray, Image.Image)) else list(inputs)
    return list(stream_explanations(load_explained(run), items, label=label, method=method))


def load_explained(run: str | Path | Run) -> Predictor:
    """The predictor of a run, once it is sure that what explains it is installed.

    Raises `MachineError` where it is not, and `ConfigError` for a bundle, which has no layers to look into.
    """
    require_extra("explain", "an explanation")
    return load(run if isinstance(run, Run) else find_run(run))


def stream_explanations(
    predictor: Predictor, inputs: Iterable[Any], *, label: str | None = None, method: str | None = None
) -> Iterator[Explanation]:
    """As `explain`, a few at a time, so that any number of inputs fits in memory."""
    target = None if label is None else _class_number(predictor, label)
    if method is not None and predictor.kind == "texts":
        raise ConfigError(f"texts are explained in one way only, got the method {method!r}")
    batch: list[Any] = []
    for item in inputs:
        batch.append(item)
        if len(batch) == AT_ONCE:
            yield from _explain_batch(predictor, batch, [target] * len(batch), method)
            batch = []
    if batch:
        yield from _explain_batch(predictor, batch, [target] * len(batch), method)


def explain_gallery(run: str | Path | Run) -> Path:
    """Explain the examples of the run's gallery, each for its answer, and write `explanations.json`; its path.

    `{"format": 1, "method": …, "examples": {key: {"picture": data URL} or {"tokens": [[text, weight], …]}}}`, with
    `note` or `error` where there is one. Raises `ConfigError` when the run has no gallery.
    """
    from danlu.data.own_part import own_part

    run = run if isinstance(run, Run) else find_run(run)
    rows = run.gallery()
    if not rows:
        raise ConfigError(f"`{run}` has no gallery to explain", hint=f"`danlu evaluate {run}` makes one")
    predictor = load_explained(run)
    examples, _ = own_part(run, "test")
    place = {key: index for index, key in enumerate(examples.keys)}
    told: dict[str, dict[str, Any]] = {}
    method = ""
    for start in range(0, len(rows), AT_ONCE):
        batch = rows[start : start + AT_ONCE]
        items = [examples.items[place[row["key"]]] for row in batch]
        targets = [_class_number(predictor, row["answer"]) for row in batch]
        for row, explanation in zip(batch, _explain_batch(predictor, items, targets, None), strict=True):
            told[row["key"]] = _to_gallery(explanation)
            method = method or explanation.method
    write_sealed_json(run.explanations_file, {"format": FORMAT, "method": method, "examples": told})
    return run.explanations_file


def _to_gallery(explanation: Explanation) -> dict[str, Any]:
    from danlu.explanation.overlay import overlay

    if explanation.error is not None:
        return {"error": explanation.error}
    note = {"note": explanation.note} if explanation.note else {}
    if explanation.tokens is not None:
        return {"tokens": [[text, round(weight, 3)] for text, weight in explanation.tokens], **note}
    pixels, heat = cast(np.ndarray, explanation.pixels), cast(np.ndarray, explanation.heat)
    picture = overlay(pixels, heat, side=GALLERY_SIDE, file_format="JPEG")
    return {"picture": f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}", **note}


def _class_number(predictor: Predictor, label: str) -> int:
    if label not in predictor.classes:
        raise ConfigError(f"the model has no class {label!r}; {nearest_names(label, predictor.classes)}")
    return predictor.classes.index(label)


def _explain_batch(
    predictor: Predictor, items: Sequence[Any], targets: Sequence[int | None], method: str | None
) -> Iterator[Explanation]:
    read: dict[int, Any] = {}
    errors: dict[int, str] = {}
    for index, item in enumerate(items):
        try:
            read[index] = predictor.read(item)
        except UnreadableItem as error:
            errors[index] = error.message
    explained = iter(_explain_read(predictor, _with_answers(predictor, items, targets, read), method) if read else ())
    for index, item in enumerate(items):
        yield Explanation(name_of(item), error=errors[index]) if index in errors else next(explained)


def _with_answers(
    predictor: Predictor, items: Sequence[Any], targets: Sequence[int | None], read: dict[int, Any]
) -> list[_Read]:
    inputs = list(read.values())
    rows = predictor.probabilities(np.stack(inputs) if predictor.kind == "images" else inputs)
    found = []
    for (index, value), probabilities in zip(read.items(), rows, strict=True):
        target = targets[index]
        wanted = int(probabilities.argmax()) if target is None else target
        found.append(_Read(items[index], value, probabilities, wanted))
    return found


def _explain_read(predictor: Predictor, read: Sequence[_Read], method: str | None) -> Iterator[Explanation]:
    model = cast("TorchEngine", predictor.engine).model
    if isinstance(predictor.recipe, ImageRecipe):
        yield from _explain_images(predictor, model, predictor.recipe, read, method)
        return
    for each in read:
        yield _explain_text(_answered(predictor, each), model, predictor.recipe, each)


def _answered(predictor: Predictor, read: _Read) -> Explanation:
    confidence = float(read.probabilities.max())
    is_accepted = bool(predictor.calibration.accepts(np.array(confidence)))
    return Explanation(
        name_of(read.item),
        answer=predictor.classes[int(read.probabilities.argmax())] if is_accepted else UNKNOWN,
        confidence=confidence,
        explained=predictor.classes[read.target],
    )


def _explain_images(
    predictor: Predictor, model: nn.Module, recipe: ImageRecipe, read: Sequence[_Read], method: str | None
) -> Iterator[Explanation]:
    from danlu.explanation.attribution import attribute_images

    images = normalize(np.stack([each.inputs for each in read]).astype(np.float32), recipe)
    found = attribute_images(model, images, [each.target for each in read], method)
    for index, each in enumerate(read):
        explanation = _answered(predictor, each)
        heat = found.heat[index]
        yield replace(
            explanation,
            method=found.method,
            heat=heat,
            pixels=each.inputs,
            gap=None if found.gap is None else float(found.gap[index]),
            note=None if heat.any() else f"no place speaks for `{explanation.explained}`: the heat is 0 everywhere",
        )


def _explain_text(explanation: Explanation, model: nn.Module, recipe: TextRecipe, read: _Read) -> Explanation:
    from danlu.explanation.attribution import attribute_text

    found = attribute_text(model, read.inputs[: recipe.max_length], read.target)
    text = clean_text(read.item)
    spans = recipe.tokenizer.encode(text, add_special_tokens=False).offsets
    largest = float(np.abs(found.weights).max())
    weights = found.weights / largest if largest else found.weights
    notes = []
    if len(spans) > len(weights):
        notes.append(f"the model reads the first {len(weights):,} of {len(spans):,} tokens")
    if not largest:
        notes.append(f"no token speaks for or against `{explanation.explained}`: every weight is 0")
    elif abs(found.gap) > LARGE_GAP * max(abs(found.change), largest):
        notes.append(f"the weights miss the change of the logit, {found.change:.3f}, by {found.gap:.3f}")
    return replace(
        explanation,
        method=found.method,
        tokens=tuple((text[a:b], float(w)) for (a, b), w in zip(spans, weights, strict=False)),
        largest=largest,
        change=found.change,
        gap=found.gap,
        note="; ".join(notes) or None,
    )
