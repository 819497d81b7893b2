"""How an exported model is used without danlu: what goes in, what comes out, and how scores become probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danlu.prediction.onnx_engine import FEATURES, INPUT, SCORES

FITTED = {
    "crop": "`PIL.ImageOps.fit(image, ({width}, {height}), PIL.Image.Resampling.BILINEAR)`",
    "pad": "`PIL.ImageOps.pad(image, ({width}, {height}), PIL.Image.Resampling.BILINEAR)`",
    "stretch": "`image.resize(({width}, {height}), PIL.Image.Resampling.BILINEAR)`",
}


def interface(kind: str, temperature: float, preprocessing: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown. `preprocessing`: of the run's `model.json`."""
    inputs = _images(preprocessing) if kind == "images" else _texts(preprocessing)
    return [
        "## Without danlu",
        "",
        *(f"- {line}" for line in inputs),
        f"- `{SCORES}`: (batch, classes) float32, in the order of the classes, before any softmax.",
        f"- `{FEATURES}`: (batch, features) float32, what the last layer reads.",
        f"- Probabilities: `softmax({SCORES} / {temperature!r})`. The temperature is fitted on validation examples.",
        "",
    ]


def _images(values: Mapping[str, Any]) -> list[str]:
    height, width = values["height"], values["width"]
    channels, mode = ("1", "grey (`L`)") if values["channels"] == 1 else ("3", "RGB")
    return [
        f"`{INPUT}`: (batch, {channels}, {height}, {width}) uint8, {mode}, from 0 to 255. Mean and standard"
        " deviation of `preprocessing.json` are applied inside: do not normalise.",
        f"Pixels: turned upright by EXIF, transparency laid on white, {mode}, then"
        f" {FITTED[values['resize']].format(width=width, height=height)}. danlu decodes large JPEG files at a fraction"
        " of their size first (`image.draft`), so that pixels may differ by a level or two.",
    ]


def _texts(values: Mapping[str, Any]) -> list[str]:
    return [
        f"`{INPUT}`: (batch, length) int64, token numbers; shorter texts are filled with 0 at their end.",
        "Token numbers: `tokenizers.Tokenizer.from_str(json.dumps(preprocessing['tokenizer']))`, the tokenizer of"
        f" `preprocessing.json`, with `add_special_tokens=False`; the first {values['max_length']:,} of each text.",
    ]
