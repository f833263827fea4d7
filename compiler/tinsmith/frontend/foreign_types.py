"""Types by onnx's own shape inference, for the values that only unsupported nodes compute.

It is C++ that aborts on some malformed nodes, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

from onnx import ModelProto

from ..ir.dtypes import DType, TensorType

_SECONDS = 60
_SCRIPT = """
import json, sys
import onnx
graph = onnx.shape_inference.infer_shapes(sys.stdin.buffer.read(), data_prop=True).graph
shapes = {
    info.name: [d.dim_value for d in info.type.tensor_type.shape.dim]
    for info in (*graph.value_info, *graph.output)
    if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
}
json.dump(shapes, sys.stdout)
"""


def foreign_types(model: ModelProto) -> Mapping[str, TensorType]:
    """The float32 values of known shape, by name; empty when the inference fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            input=model.SerializeToString(),
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        return {}
    shapes: dict[str, list[int]] = json.loads(done.stdout)
    return {
        name: TensorType(tuple(shape), DType.FLOAT32)
        for name, shape in shapes.items()
        if all(d > 0 for d in shape)
    }
