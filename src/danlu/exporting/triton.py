"""A model repository for Triton Inference Server: `NAME/config.pbtxt`, `NAME/1/model.onnx` and the classes."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from danlu.base.bundle import write_file
from danlu.base.files import make_folder, write_text
from danlu.exporting.exported import Exported
from danlu.exporting.onnx_format import onnx_bytes
from danlu.prediction.onnx_engine import FEATURES, INPUT, SCORES, OnnxEngine

LARGEST_BATCH = 64
WAIT_MICROSECONDS = 2000


def write(exported: Exported, folder: Path, name: str, classes: tuple[str, ...]) -> OnnxEngine:
    """The repository below `folder`, with a queue that joins requests that come within 2 ms."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    if not name.isascii():  # names that differ in Chinese signs alone have to differ here too
        plain = f"{plain or 'model'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    home = folder / plain
    make_folder(home / "1")
    model = onnx_bytes(exported)
    write_file(home / "1", "model.onnx", model)
    write_text(home / "classes.txt", "".join(" ".join(label.split()) + "\n" for label in classes))
    kind = "texts" if exported.recipe is None else "images"
    engine = OnnxEngine(model, name="model.onnx", kind=kind, num_classes=len(classes))
    width = engine.session.get_outputs()[1].shape[-1]
    shape, dtype = ([-1], "TYPE_INT64") if exported.recipe is None else (list(exported.recipe.shape), "TYPE_UINT8")
    write_text(
        home / "config.pbtxt",
        f"""name: {json.dumps(plain)}
backend: "onnxruntime"
max_batch_size: {LARGEST_BATCH}
input [ {{ name: "{INPUT}" data_type: {dtype} dims: {shape} }} ]
output [
  {{ name: "{SCORES}" data_type: TYPE_FP32 dims: [{len(classes)}] label_filename: "classes.txt" }},
  {{ name: "{FEATURES}" data_type: TYPE_FP32 dims: [{width}] }}
]
dynamic_batching {{ max_queue_delay_microseconds: {WAIT_MICROSECONDS} }}
instance_group [ {{ kind: KIND_CPU }} ]
""",
    )
    return engine
