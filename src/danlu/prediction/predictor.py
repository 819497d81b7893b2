"""Load a trained model and ask it: files, arrays, images or texts in, class and probabilities out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from danlu.base.bundle import PREPROCESSING, Bundle, is_bundle, open_bundle
from danlu.base.errors import ConfigError, ModelError, UnreadableItem
from danlu.base.extras import missing_packages, require_extra
from danlu.base.machine import available_cores
from danlu.base.runs import Run, find_run
from danlu.inputs.images import ImageRecipe, decode_image, fit_image, fit_pixels, pixels_from_list, read_file
from danlu.inputs.texts import TextRecipe, pad_rows
from danlu.prediction.answers import UNKNOWN
from danlu.prediction.reading import Read, answer_stream
from danlu.scores.calibration import Calibration

BATCH = 256
NOT_CALIBRATED = Calibration()


class Engine(Protocol):
    """What computes: (B, channels, height, width) uint8 pixels, or (B, length) int64 token numbers, to (B, classes)
    float64 that add up to 1."""

    def probabilities(self, inputs: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Prediction:
    """One answer. `probabilities` by class, most probable first, calibrated where the model is.

    With `is_unknown` the label is `unknown`: the model is less confident than its threshold. With `error`, the input
    could not be read and there is no answer. With `is_cut`, a text was longer than what the model reads of it.
    """

    input: str
    label: str | None
    confidence: float | None
    probabilities: dict[str, float]
    error: str | None = None
    is_unknown: bool = False
    is_cut: bool = False

    def to_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"input": self.input, "error": self.error}
        return {
            "input": self.input,
            "class": self.label,
            **({"unknown": True} if self.is_unknown else {}),
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            **({"cut": True} if self.is_cut else {}),
        }


class Predictor:
    """A model with its preprocessing and classes.

    >>> predictor = load("runs/latest")                  # doctest: +SKIP
    >>> predictor.predict(["a.jpg"])[0].label            # doctest: +SKIP
    'cat'
    """

    def __init__(
        self,
        kind: str,
        classes: Sequence[str],
        recipe: ImageRecipe | TextRecipe,
        engine: Engine,
        calibration: Calibration = NOT_CALIBRATED,
    ) -> None:
        self.kind = kind
        self.classes = tuple(classes)
        self.recipe = recipe
        self.engine = engine
        self.calibration = calibration

    def __repr__(self) -> str:
        return f"<Predictor of {self.kind} into {len(self.classes):,} classes>"

    def predict(self, inputs: Sequence[Any] | str | Path) -> list[Prediction]:
        """An answer for each input, in order; one that cannot be read has `error` and harms no other.

        For image models: paths, file bytes, Pillow images, and uint8 arrays or lists (H, W) or (H, W, channels); an
        array (N, H, W, channels) is N inputs. For text models: texts.
        """
        if isinstance(inputs, (str, Path, bytes, bytearray, Image.Image)) or _is_one_image(inputs):
            return list(self.stream([inputs]))
        if not isinstance(inputs, Iterable):
            raise ConfigError(f"`predict` takes one input or a list of them, not {type(inputs).__name__}")
        return list(self.stream(inputs))

    def stream(self, inputs: Iterable[Any]) -> Iterator[Prediction]:
        """As `predict`, a batch at a time, so that any number of inputs fits in memory."""
        return answer_stream(inputs, self.read, self._answers, BATCH)

    def probabilities(self, inputs: Any) -> np.ndarray:
        """(N, channels, height, width) uint8 pixels, or N rows of token numbers → (N, classes) float64, calibrated."""
        return self.calibration.apply(self.plain_probabilities(inputs))

    def plain_probabilities(self, inputs: Any) -> np.ndarray:
        """As `probabilities`, at temperature 1. Raises `ModelError` where the model computes no numbers."""
        return self._computed(inputs, lambda rows: [self.engine.probabilities(rows)])[0]

    def with_features(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """As `probabilities`, and the (N, features) float32 that the last layer reads. Only an exported model tells
        them."""
        plain, features = self._computed(inputs, self.engine.with_features)  # type: ignore[attr-defined]
        return self.calibration.apply(plain), features

    def _computed(self, inputs: Any, compute: Callable[[np.ndarray], Sequence[np.ndarray]]) -> list[np.ndarray]:
        """What `compute` makes of a batch at a time, the first probabilities; texts of similar length go together."""
        count = len(inputs)
        if isinstance(self.recipe, ImageRecipe):
            batches = [inputs[start : start + BATCH] for start in range(0, count, BATCH)]
            order = None
        else:
            inputs = [row[: self.recipe.max_length] for row in inputs]
            order = np.argsort([len(row) for row in inputs], kind="stable")
            batches = [pad_rows([inputs[i] for i in order[start : start + BATCH]]) for start in range(0, count, BATCH)]
        if not batches:
            return [np.empty((0, len(self.classes)))]
        if len(batches) == 1:
            out = list(compute(batches[0]))
        else:
            out = [np.concatenate(parts) for parts in zip(*map(compute, batches), strict=True)]
        if order is not None and count > 1:
            back = np.argsort(order)
            out = [part[back] for part in out]
        if not math.isfinite(out[0].sum()):
            wrong = int((~np.isfinite(out[0])).any(1).sum())
            raise ModelError(f"the model answers {wrong:,} of {count:,} inputs with NaN")
        return out

    def _answers(self, items: Sequence[Read]) -> list[Prediction]:
        read = [made for _, made in items if not isinstance(made, UnreadableItem)]
        rows = iter(self.probabilities(np.stack(read) if self.kind == "images" else read) if read else ())
        return [
            Prediction(name_of(item), None, None, {}, made.message)
            if isinstance(made, UnreadableItem)
            else replace(self.prediction(next(rows), name_of(item)), is_cut=self.is_cut(made))
            for item, made in items
        ]

    def is_cut(self, made: Any) -> bool:
        """Whether the model reads only the beginning of what `read` gave."""
        return isinstance(self.recipe, TextRecipe) and len(made) > self.recipe.max_length

    def prediction(self, row: np.ndarray, name: str = "") -> Prediction:
        """(classes,) calibrated probabilities as an answer for the input of this name."""
        values: list[float] = row.tolist()
        order = sorted(range(len(values)), key=values.__getitem__, reverse=True)  # stable: of equals, the first class
        probabilities = {self.classes[i]: values[i] for i in order}
        confidence = values[order[0]]
        is_unknown = not self.calibration.accepts(confidence)
        label = UNKNOWN if is_unknown else self.classes[order[0]]
        return Prediction(name, label, confidence, probabilities, is_unknown=is_unknown)

    def read(self, item: Any, *, at_most: int | None = None) -> Any:
        """One input as (channels, height, width) uint8 or all of its token numbers. Raises `UnreadableItem`, and
        `ManyPixels` for the bytes of an image of more pixels than `at_most`."""
        if isinstance(self.recipe, TextRecipe):
            if not isinstance(item, str):
                raise UnreadableItem(f"is not a text but {type(item).__name__}")
            return self.recipe.token_ids([item])[0]
        if isinstance(item, (str, Path)):
            return decode_image(read_file(item), self.recipe)
        if isinstance(item, (bytes, bytearray)):
            return decode_image(bytes(item), self.recipe, at_most=at_most)
        if isinstance(item, Image.Image):
            return fit_image(item, self.recipe)
        if isinstance(item, (list, tuple)):
            return fit_pixels(pixels_from_list(item), self.recipe)
        if isinstance(item, np.ndarray):
            return fit_pixels(item, self.recipe)
        raise UnreadableItem(f"is not an image but {type(item).__name__}")


def load(place: str | Path | Run, *, variant: str | None = None, spinning: bool = True) -> Predictor:
    """The predictor of a bundle, which needs no PyTorch, or of a run at its best weights.

    `variant`: of a bundle, where another than its default is to answer. `spinning=False` keeps a bundle's threads from
    waiting at full speed, where other work needs the processor.
    Raises `ConfigError` where there is neither, and `ModelError` for a damaged one.
    """
    if not isinstance(place, (str, Path, Run)):
        raise ConfigError(f"a model is a folder or a Run, not {type(place).__name__}")
    if not isinstance(place, Run) and is_bundle(place):
        return load_bundle(open_bundle(place), variant, spinning=spinning)
    run = place if isinstance(place, Run) else find_run(place)
    if is_bundle(run.bundle_folder) and missing_packages("train"):
        raise ConfigError(f"`{run}` is a run, which needs PyTorch", hint=f"its bundle does not: `{run.bundle_folder}`")
    if variant is not None:
        raise ConfigError(f"`{run}` is a run, which has no variants", hint=f"its bundle has: `{run.bundle_folder}`")
    require_extra("train", "a model that is not exported")
    from danlu.prediction.torch_engine import TorchEngine

    description = run.model()
    saved = run.calibration()
    calibration = Calibration.from_json(saved) if saved else NOT_CALIBRATED
    return Predictor(description["kind"], description["classes"], recipe_of(description), TorchEngine(run), calibration)


def load_bundle(
    bundle: Bundle, variant: str | None = None, *, spinning: bool = True, most_threads: int | None = None
) -> Predictor:
    """The predictor of a bundle, by its default variant or the one named.

    What was measured to be fast holds on a machine with as many cores; elsewhere onnxruntime chooses.
    """
    from danlu.prediction.onnx_engine import HowToRun, OnnxEngine

    name = variant or bundle.content["default"]
    if name not in bundle.variants:
        raise ConfigError(f"`{bundle}` has no variant {name!r}", hint="it has " + ", ".join(bundle.variants))
    bundle.verify()
    told = bundle.variants[name]
    how = HowToRun(**told["how"]) if bundle.content.get("cores") == available_cores() else HowToRun()
    if most_threads is not None:
        how = replace(how, threads=min(how.threads or available_cores(), most_threads))
    engine = OnnxEngine(
        bundle.read(told["file"]),
        name=str(bundle.folder / told["file"]),
        kind=bundle.kind,
        num_classes=len(bundle.classes),
        how=replace(how, spinning=how.spinning and spinning),
    )
    recipe = recipe_of({"kind": bundle.kind, "preprocessing": bundle.read_json(PREPROCESSING)})
    if isinstance(recipe, ImageRecipe) and (shape := engine.example_shape) != recipe.shape:
        raise ModelError(f"`{engine.name}` reads images of {shape}, the preprocessing makes {recipe.shape}")
    return Predictor(bundle.kind, bundle.classes, recipe, engine, Calibration.from_json(bundle.content["calibration"]))


def recipe_of(description: dict[str, Any]) -> ImageRecipe | TextRecipe:
    """The preprocessing saved in `model.json`."""
    values = description["preprocessing"]
    if description["kind"] == "images":
        return ImageRecipe.from_json(values)
    if description["kind"] == "texts":
        return TextRecipe.from_json(values)
    raise ConfigError(f"no preprocessing for {description['kind']!r}")


def _is_one_image(inputs: Any) -> bool:
    """Whether an array or nested list is the pixels of one image.

    Lists of lists of triples are: as a list of grey images each would be three pixels wide.
    """
    if isinstance(inputs, np.ndarray):
        return inputs.ndim < 4 and inputs.dtype.kind not in "OU"
    row = inputs[0] if isinstance(inputs, (list, tuple)) and inputs else None
    pixel = row[0] if isinstance(row, (list, tuple)) and row else None
    if isinstance(pixel, (list, tuple)):
        return len(pixel) in (1, 3, 4) and isinstance(pixel[0], int)
    return isinstance(pixel, int)


def name_of(item: Any) -> str:
    """How an input is called in answers: its path or text, or the type of what has no name."""
    if isinstance(item, (str, Path)):
        return str(item)
    return f"<{type(item).__name__}>"
