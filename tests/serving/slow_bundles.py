"""Real bundles whose model is really slow, or fails or hangs at a colour, by more nodes in their ONNX file.

Every answer stays what it was: the work of the loop is multiplied by zero and added to the scores.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from danlu.base.bundle import MARK, open_bundle, write_mark

SIDE = 96
FAILS_AT = (3, 2, 1)  # the colour of the first pixel at which the scores are NaN
HANGS_AT = (1, 2, 3)
HANGING_STEPS = 10**9


def slowed(bundle: Path, folder: Path, *, steps_per_call: int = 0, steps_per_example: int = 0) -> Path:
    """A copy in `folder` that multiplies a 96 × 96 matrix by another (about 0.05 ms on one core) so many times."""
    shutil.copytree(bundle, folder)
    content = dict(open_bundle(folder).content)
    content.pop("files")
    for told in content["variants"].values():
        told["how"] = {**told["how"], "threads": 1}
        path = folder / told["file"]
        model = onnx.load(path)
        _slow_down(model.graph, steps_per_call, steps_per_example)
        onnx.checker.check_model(model)
        onnx.save(model, path)
    (folder / MARK).unlink()
    return write_mark(folder, content).folder


def _slow_down(graph: onnx.GraphProto, steps_per_call: int, steps_per_example: int) -> None:
    def constant(name: str, values: object, dtype: type) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), f"slow_{name}"))
        return f"slow_{name}"

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        graph.node.append(helper.make_node(kind, inputs, [f"slow_{output}"], **attributes))
        return f"slow_{output}"

    for made in graph.node:
        made.output[:] = ["slow_scores_before" if name == "scores" else name for name in made.output]
        made.input[:] = ["slow_scores_before" if name == "scores" else name for name in made.input]
    ends = constant("ends", [1, 1], np.int64)
    corner = node(
        "Slice", ["inputs", constant("starts", [0, 0], np.int64), ends, constant("axes", [2, 3], np.int64)], "corner"
    )
    color = node("Cast", [node("Reshape", [corner, constant("flat", [0, -1], np.int64)], "color8")], "color", to=7)

    def is_color(color_of: tuple[int, ...], name: str) -> str:
        equal = node(
            "Cast", [node("Equal", [color, constant(name, [color_of], np.int64)], f"{name}_equal")], f"{name}_i", to=7
        )
        return node("ReduceMin", [equal, constant(f"{name}_axis", [1], np.int64)], f"{name}_is", keepdims=1)

    zero = constant("zero", 0, np.int64)
    hanging = node("ReduceMax", [is_color(HANGS_AT, "hang")], "any_hangs", keepdims=0)
    size = node("Gather", [node("Shape", ["inputs"], "shape"), zero], "size")
    steps = node("Mul", [size, constant("per_example", steps_per_example, np.int64)], "steps_of_examples")
    steps = node("Add", [steps, constant("per_call", steps_per_call, np.int64)], "steps_of_call")
    more = node("Mul", [hanging, constant("hanging", HANGING_STEPS, np.int64)], "steps_of_hanging")
    steps = node("Add", [steps, more], "steps")
    identity = constant("identity", np.eye(SIDE), np.float32)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("MatMul", ["state", identity], ["state_after"]),
        ],
        "slow_body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_after", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
    )
    done = node("Loop", [steps, constant("true", True, np.bool_), identity], "done", body=body)
    nothing = node("Mul", [node("ReduceSum", [done], "sum", keepdims=0), constant("none", 0, np.float32)], "nothing")
    is_failing = node("Cast", [is_color(FAILS_AT, "fail")], "fails", to=9)
    added = node("Where", [is_failing, constant("nan", np.nan, np.float32), nothing], "added")
    graph.node.append(helper.make_node("Add", ["slow_scores_before", added], ["scores"]))
