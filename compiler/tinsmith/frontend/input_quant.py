"""What QDQ models leave unsaid: the scale of an integer graph input, zero points by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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


def complete_zero_points(
    nodes: Sequence[NodeProto], arrays: dict[str, Array], unsigned: Iterable[str]
) -> None:
    """Write out the uint8 zero point 0 that a quantiser without one has.

    In place. unsigned: the uint8 graph inputs. QuantizeLinear gives uint8 unless it says otherwise,
    and the DequantizeLinear behind it does not repeat that.
    """
    values = set(unsigned)
    zero = "tinsmith.uint8_zero"
    for node in nodes:
        source = node.input[0] if node.input else ""
        given = node.input[2] if len(node.input) > 2 else ""
        if node.op_type == "QuantizeLinear":
            typed = any(a.name == "output_dtype" and a.i for a in node.attribute)
            if arrays[given].dtype == np.uint8 if given in arrays else not (given or typed):
                values.update(node.output)
            if node.output[0] in values and not given:
                _set_input(node, 2, zero)
        elif node.op_type == "DequantizeLinear" and source in values and not given:
            _set_input(node, 2, zero)
        elif node.op_type in _MOVES and source in values:
            values.update(node.output)
    if any(zero in n.input for n in nodes):
        arrays[zero] = np.array(0, np.uint8)


def _set_input(node: NodeProto, index: int, name: str) -> None:
    while len(node.input) <= index:
        node.input.append("")
    node.input[index] = name


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
