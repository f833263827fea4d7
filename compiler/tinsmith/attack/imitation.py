"""A differentiable imitation of an int8 network: what an attacker makes of copied weights.

A value stands for (q − zero point) · UNIT, where q are the device's integers; nothing is rounded,
clamps stay. Weights are the integer filters times the multiplier of their channel, so no scale has
to be known. The first axis holds samples: the device's batch is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from ..ops.average_pool import window_divisors
from ..ops.slice import rows as slice_rows
from .torch_extra import Tensor, load_torch

UNIT = 1 / 64  # activations of full range are near 2: usual learning rates fit
Parameters: TypeAlias = dict[str, Tensor]
Values: TypeAlias = MutableMapping[Value, Tensor]
WEIGHTED = ("conv2d", "dense")


def factor(multiplier: Array | int, shift: Array | int) -> Array:
    """The real factor of a multiplier and a shift."""
    return np.asarray(multiplier, np.float64) * 2.0 ** (np.asarray(shift, np.float64) - 31)


def weight_name(node: Node) -> str:
    return f"{node.name}/weight"


def bias_name(node: Node) -> str:
    return f"{node.name}/bias"


def parameters_of(graph: Graph, nodes: Iterable[Node]) -> Parameters:
    """Weights [O,KH,KW,I] or [O,I] and biases [O] of the layers, float32 tensors."""
    torch = load_torch()
    found: Parameters = {}
    for node in nodes:
        if node.op.name in WEIGHTED:
            w, bias, multiplier, shift = (graph.constant(v) for v in node.inputs[1:])
            scale = factor(multiplier, shift)
            filters = w.astype(np.float64) * scale.reshape(-1, *[1] * (w.ndim - 1))
            found[weight_name(node)] = torch.tensor(filters.astype(np.float32))
            found[bias_name(node)] = torch.tensor((bias * scale * UNIT).astype(np.float32))
    return found


def run_nodes(
    graph: Graph, nodes: Iterable[Node], values: Values, parameters: Mapping[str, Tensor]
) -> None:
    """Compute the nodes' outputs into `values`, which holds what they read."""
    for node in nodes:
        rule = _RULES.get(node.op.name)
        if rule is None or (len(node.outputs) != 1 and node.op.name != "split"):
            raise CompileError(
                f"the attacks cannot imitate {node.op.name}", node=str(node.origin),
                expected=", ".join(sorted(_RULES)),
            )  # fmt: skip
        inputs = [values[v] if v in values else _constant(graph, v) for v in node.inputs]
        outputs = rule(_Call(graph, node, inputs, parameters))
        values.update(zip(node.outputs, outputs, strict=True))


def centred(value: Value, array: Array) -> Tensor:
    """int8 [samples, *shape] or [*shape] as what the imitation computes with, samples first."""
    torch = load_torch()
    shape = value.type.shape
    rows = array.reshape(-1, *shape[1:]) if array.ndim > len(shape) else array
    return (torch.tensor(rows).float() - value.type.zero_point) * UNIT


def as_int8(value: Value, tensor: Tensor) -> Array:
    """The nearest integers of the device, int8."""
    q = np.rint(tensor.detach().numpy() / UNIT) + value.type.zero_point
    return np.clip(q, -128, 127).astype(np.int8)


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, attrs: Any) -> Tensor:
    """x [N,H,W,C], w [O,KH,KW,I] → [N,OH,OW,O]; attrs: strides, pads, dilations, groups."""
    functional = load_torch().nn.functional
    top, left, bottom, right = attrs.pads
    x = x.permute(0, 3, 1, 2)
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
    y = functional.conv2d(
        x, w.permute(0, 3, 1, 2), bias, attrs.strides, padding, attrs.dilations, attrs.groups
    )
    return y.permute(0, 2, 3, 1)


def clamped(node: Node, y: Tensor) -> Tensor:
    """Inside the output's bounds."""
    low, high = getattr(node.attrs, "q_clamp", (-128, 127))
    zero = node.y.zero_point
    return y.clamp((low - zero) * UNIT, (high - zero) * UNIT)


class _Call:
    """One node being computed."""

    def __init__(
        self, graph: Graph, node: Node, xs: Sequence[Tensor], parameters: Mapping[str, Tensor]
    ) -> None:
        self.graph, self.node, self.attrs = graph, node, node.attrs
        self.x, self.xs = xs[0], xs
        self.torch = load_torch()
        self.parameters = parameters

    def array(self, index: int) -> Array:
        return self.graph.constant(self.node.inputs[index])

    def parameter(self, name: Callable[[Node], str]) -> Tensor:
        return self.parameters[name(self.node)]


def _constant(graph: Graph, value: Value) -> Tensor:
    """A constant operand; weights and tables are read by their rules instead."""
    array = graph.constant(value)
    if array.dtype == np.int8 and value.type.quant is not None and value.type.quant.axis is None:
        torch = load_torch()
        return (torch.tensor(array).float() - value.type.zero_point) * UNIT
    return None


def _conv2d(c: _Call) -> list[Tensor]:
    y = convolve(c.x, c.parameter(weight_name), c.parameter(bias_name), c.attrs)
    return [clamped(c.node, y)]


def _dense(c: _Call) -> list[Tensor]:
    return [clamped(c.node, c.x @ c.parameter(weight_name).T + c.parameter(bias_name))]


def _sum(c: _Call) -> list[Tensor]:
    a, b = (k / 2.0**c.attrs.n for k in (c.attrs.a, c.attrs.b))
    return [clamped(c.node, c.x * a + c.xs[1] * b)]


def _mul(c: _Call) -> list[Tensor]:
    scale = float(factor(c.attrs.multiplier, c.attrs.shift)) / UNIT
    return [clamped(c.node, c.x * c.xs[1] * scale)]


def _reduce_mean(c: _Call) -> list[Tensor]:
    y = c.x.sum(c.attrs.axes, keepdim=c.attrs.keepdims)
    return [clamped(c.node, y * float(factor(c.array(1), c.array(2))[0]))]


def _windows(c: _Call, fill: float) -> Tensor:
    """[N,OH,OW,C,KH·KW] of a pool."""
    a, y = c.attrs, c.node.y.shape
    (kh, kw), (sh, sw), (dh, dw) = a.kernel, a.strides, a.dilations
    need_h, need_w = (y[1] - 1) * sh + (kh - 1) * dh + 1, (y[2] - 1) * sw + (kw - 1) * dw + 1
    top, left = a.pads[:2]
    below, right = (max(0, n - s) for n, s in ((need_h - top, c.x.shape[1]),
                                              (need_w - left, c.x.shape[2])))  # fmt: skip
    x = c.torch.nn.functional.pad(c.x, (0, 0, left, right, top, below), value=fill)
    taps = [
        x[:, i * dh : i * dh + (y[1] - 1) * sh + 1 : sh, j * dw : j * dw + (y[2] - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]
    return c.torch.stack(taps, -1)


def _max_pool(c: _Call) -> list[Tensor]:
    return [clamped(c.node, _windows(c, -1e9).amax(-1))]


def _average_pool(c: _Call) -> list[Tensor]:
    divisors = window_divisors(c.node.x, c.attrs)
    kind = np.searchsorted(np.unique(divisors), divisors)
    scale = c.torch.tensor(factor(c.array(1), c.array(2))[kind][None, :, :, None]).float()
    return [clamped(c.node, _windows(c, 0.0).sum(-1) * scale)]


def _softmax(c: _Call) -> list[Tensor]:
    real = c.x * (c.node.x.scale / UNIT)
    return [c.torch.softmax(real, c.attrs.axis) * (UNIT / c.node.y.scale)]


def _lookup(c: _Call) -> list[Tensor]:
    """The table with straight lines between its entries, so that it has slopes."""
    table = (c.torch.tensor(c.array(1)).float() - c.node.y.zero_point) * UNIT
    at = (c.x / UNIT + c.node.x.zero_point + 128).clamp(0, 255)
    low = at.detach().floor().clamp(max=254).long()
    part = at - low
    return [table[low] * (1 - part) + table[low + 1] * part]


def _pad(c: _Call) -> list[Tensor]:
    if c.attrs.mode != "constant":
        raise CompileError(f"the attacks cannot imitate a {c.attrs.mode} pad")
    widths = [0] * (2 * c.node.x.rank)
    for axis, before, after in zip(c.attrs.axes, c.attrs.before, c.attrs.after, strict=True):
        widths[2 * (c.node.x.rank - 1 - axis) : 2 * (c.node.x.rank - axis)] = (before, after)
    value = (c.attrs.q_value - c.node.x.zero_point) * UNIT
    return [c.torch.nn.functional.pad(c.x, widths, value=value)]


def _slice(c: _Call) -> list[Tensor]:
    x = c.x
    for axis, start, size, step in slice_rows(c.attrs):
        x = x.index_select(axis, c.torch.arange(size) * step + start)
    return [x]


def _resize(c: _Call) -> list[Tensor]:
    rows, columns = c.attrs.scales
    return [c.x.repeat_interleave(rows, 1).repeat_interleave(columns, 2)]


_RULES: Mapping[str, Callable[[_Call], list[Tensor]]] = {
    "add": _sum,
    "average_pool": _average_pool,
    "concat": lambda c: [c.torch.cat(list(c.xs), c.attrs.axis)],
    "conv2d": _conv2d,
    "dense": _dense,
    "identity": lambda c: [c.x],
    "lookup": _lookup,
    "max_pool": _max_pool,
    "mul": _mul,
    "pad": _pad,
    "reduce_mean": _reduce_mean,
    "reshape": lambda c: [c.x.reshape(-1, *c.attrs.shape[1:])],
    "resize": _resize,
    "slice": _slice,
    "softmax": _softmax,
    "split": lambda c: list(c.torch.split(c.x, list(c.attrs.sizes), c.attrs.axis)),
    "sub": _sum,
    "transpose": lambda c: [c.x.permute(c.attrs.perm)],
}
