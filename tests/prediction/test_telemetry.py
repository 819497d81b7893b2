"""danlu tells nobody what it is used for, nor do the engines it uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

USE = """
import danlu
import onnx, onnxruntime
from onnx import TensorProto, helper

x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
print(session.run(None, {"x": [3.0]}))
"""


def test_onnxruntime_keeps_no_records_for_its_maker(tmp_path: Path) -> None:
    """It gathers what it will send in a database below the cache folder of the user."""
    left_out = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, env=environment, check=True)
    assert "3." in done.stdout
    assert list(tmp_path.rglob("*onnxruntime*")) == []
