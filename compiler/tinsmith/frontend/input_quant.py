"""The scale of an integer graph input: that of the DequantizeLinear it flows into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, helper

from ..errors import ImportFailure
from ..ir.dtypes import Array, Quant

# They move or select elements, so their output has the scale of their input.
_MOVES = frozenset(
    {
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Slice",
        "Split",
        "Concat",
        "MaxPool",
        "Pad",
        "Dropout",
    }
)
_UINT8_OFFSET = 128


def input_quant(
    name: str, unsigned: bool, nodes: Sequence[NodeProto], arrays: Mapping[str, Array]
) -> Quant:
    """Scale and zero point (in int8 terms) of an int8 or uint8 input. Raises ImportFailure."""
    reached = {name}
    for node in nodes:
        if not node.input or node.input[0] not in reached:
            continue
        if node.op_type in _MOVES:
            reached.update(node.output)
        if node.op_type == "DequantizeLinear" and node.input[1] in arrays:
            scale = np.ravel(arrays[node.input[1]])
            zero = np.zeros(1)
            if len(node.input) > 2 and node.input[2]:
                zero = np.ravel(arrays.get(node.input[2], zero))
            if scale.size == 1 and zero.size == 1:
                offset = _UINT8_OFFSET if unsigned else 0
                return Quant.per_tensor(float(np.float32(scale[0])), int(zero[0]) - offset)
        if node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == 1:
            return Quant.per_tensor(1.0, -_UINT8_OFFSET if unsigned else 0)
    raise ImportFailure(
        f"the graph input {name!r} is {'uint8' if unsigned else 'int8'} of unknown scale",
        expected="a DequantizeLinear behind it",
        hint="export a float32 input, or a QDQ model",
    )
