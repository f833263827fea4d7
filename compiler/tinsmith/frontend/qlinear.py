"""QLinear operators → `DequantizeLinear → operator → QuantizeLinear`: one way into int8.

Sources: the ONNX specification (QLinearConv, QLinearMatMul) and onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from ..ir.dtypes import Array
from .import_context import NodeFailure
from .model_file import STANDARD_DOMAINS, node_label

CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class _Form:
    """Where a QLinear operator keeps its operands.

    operator: what it computes. operands: index of each (tensor, scale, zero point) triple.
    output: index of the output's scale; its zero point follows. bias: index of an int32 bias.
    weight_axis: axis of per-channel weights (the second operand).
    """

    operator: str
    operands: tuple[int, ...]
    output: int
    bias: int | None = None
    weight_axis: int = 0
    domain: str = CONTRIB


_BINARY = (0, 3)
_FORMS = {
    "QLinearConv": _Form("Conv", _BINARY, 6, bias=8, domain=""),
    "QLinearMatMul": _Form("MatMul", _BINARY, 6, weight_axis=1, domain=""),
    "QLinearAdd": _Form("Add", _BINARY, 6),
    "QLinearMul": _Form("Mul", _BINARY, 6),
    "QGemm": _Form("Gemm", _BINARY, 7, bias=6, weight_axis=1),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3),
    "QLinearSigmoid": _Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3),
    "QLinearSoftmax": _Form("Softmax", (0,), 3),
    "QLinearConcat": _Form("Concat", (), 0),  # any number of triples after the output's scale
}


QLINEAR_OPERATORS = tuple(_FORMS)


def is_qlinear(node: NodeProto) -> bool:
    form = _FORMS.get(node.op_type)
    standard = node.domain in STANDARD_DOMAINS
    return form is not None and (node.domain == CONTRIB or (standard and form.domain == ""))


def expand_qlinear(node: NodeProto, arrays: dict[str, Array]) -> Iterator[NodeProto]:
    """The nodes that replace it, each under its own name; new constants join `arrays`."""
    form = _FORMS[node.op_type]
    if any(a.name == "channels_last" and a.i for a in node.attribute):
        raise NodeFailure("channels_last is not supported")
    _check_inputs(node, form, arrays)
    prefix = node.output[0]
    operands: list[str] = []
    for index in form.operands or range(2, len(node.input), 3):
        operands.append(f"{prefix}.dq{index}")
        axis = form.weight_axis if index else 1
        if node.op_type == "QGemm" and index and _attribute(node, "transB"):
            axis = 0
        yield _dequantize(node, node.input[index : index + 3], operands[-1], axis)
    if form.bias is not None and len(node.input) > form.bias and node.input[form.bias]:
        scale = f"{prefix}.bias_scale"
        arrays[scale] = _bias_scale(node, form, arrays)
        operands.append(f"{prefix}.bias")
        yield _dequantize(node, [node.input[form.bias], scale], operands[-1], 0)
    real = f"{prefix}.real"
    operation = helper.make_node(form.operator, operands, [real], name=node_label(node))
    operation.attribute.extend(a for a in node.attribute if a.name != "channels_last")
    yield operation
    yield helper.make_node(
        "QuantizeLinear", [real, *node.input[form.output :][:2]], [prefix], name=node_label(node)
    )


def _check_inputs(node: NodeProto, form: _Form, arrays: dict[str, Array]) -> None:
    """onnx.checker knows nothing of contributed operators; nor of the bias's type here."""
    count = len(node.input)
    if form.operands:
        if count < form.output + 1:
            raise NodeFailure(f"it has {count} inputs, expected {form.output + 1} or more")
    elif count < 5 or (count - 2) % 3:
        raise NodeFailure(
            f"it has {count} inputs, expected two for the output and three for every tensor"
        )
    if form.bias is not None and count > form.bias:
        bias = arrays.get(node.input[form.bias])
        if bias is not None and bias.dtype != np.int32:
            raise NodeFailure(f"its bias holds {bias.dtype}, expected int32")


def _dequantize(node: NodeProto, inputs: Sequence[str], output: str, axis: int) -> NodeProto:
    return helper.make_node(
        "DequantizeLinear", list(inputs), [output], name=node_label(node), axis=axis
    )


def _bias_scale(node: NodeProto, form: _Form, arrays: dict[str, Array]) -> Array:
    """scale of the int32 bias: s_x · s_w[c]."""
    scales: list[Array] = []
    for index in form.operands:
        name = node.input[index + 1]
        if name not in arrays:
            raise NodeFailure(f"the scale {name!r} must be constant, and it is computed")
        scales.append(arrays[name])
    if scales[0].size != 1:
        raise NodeFailure(f"its input has {scales[0].size} scales, expected one")
    alpha = np.float32(_attribute(node, "alpha") or 1.0)
    with np.errstate(over="ignore"):  # what is not finite then is no scale, as its node will say
        return (alpha * scales[0].reshape(()) * scales[1]).astype(np.float32)


def _attribute(node: NodeProto, name: str) -> float:
    return next((float(helper.get_attribute_value(a)) for a in node.attribute if a.name == name), 0)
