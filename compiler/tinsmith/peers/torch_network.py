"""Our FLOAT graph as a torch module, with the same integers where it is quantised.

quantize and dequantize become torch's own operators, so XNNPACK computes the int8 model that was
given and not one that was calibrated anew. Int8 goes in and comes out where a firmware's does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..ir.dtypes import Array, DType, Quant
from ..ir.graph import Graph, Node, Value
from ..quant.arithmetic import dequantize_array
from .contender import NotComparable

_LOW, _HIGH = -128, 127


def torch_network(graph: Graph, torch: Any) -> Any:
    """A `torch.nn.Module` in evaluation mode, of the graph's inputs and outputs.

    graph: FLOAT, in ONNX layout. Raises NotComparable for an operator without a rule here.
    """
    rules: dict[str, Rule] = {**_rules(torch), **_unary(torch)}
    for node in graph.nodes:
        if node.op.name not in rules:
            raise NotComparable(f"{node.op.name} has no rule for torch")
    constants, folded = _constants(graph)
    first, last = edges(graph)
    # Every reader gets a dequantize of its own: XNNPACK takes it into the operator that reads it.
    dequantized = {
        n.outputs[0]: n
        for n in graph.nodes
        if n.op.name == "dequantize" and n.name not in folded and n.outputs[0] not in last
    }

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.names: dict[str, str] = {}
            for i, (name, array) in enumerate(constants.items()):
                self.names[name] = f"c{i}"
                self.register_buffer(f"c{i}", torch.from_numpy(array.copy()))

        def forward(self, *inputs: Any) -> Any:
            known = {name: getattr(self, key) for name, key in self.names.items()}
            known |= {v.name: x for v, x in zip(graph.inputs, inputs, strict=True)}

            def read(value: Value) -> Any:
                node = dequantized.get(value)
                if node is None:
                    return known[value.name]
                parts = [known[f"{value.name}#{part}"] for part in _parts(node)]
                return rules["dequantize"](node, [known[node.inputs[0].name], *parts])

            for node in graph.nodes:
                x, y = node.inputs[0], node.outputs[0]
                if node.name in folded or y in dequantized:
                    continue
                if x in first or y in last:
                    known[y.name] = known[x.name]
                else:
                    known[y.name] = rules[node.op.name](node, [read(v) for v in node.inputs])
            return tuple(read(v) for v in graph.outputs)

    return Network().eval()


Rule = Callable[[Node, list[Any]], Any]


def edges(graph: Graph) -> tuple[set[Value], set[Value]]:
    """Inputs that only a quantize reads, and outputs that a dequantize makes: int8 at the edge."""
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    makers = {v: n for n in graph.nodes for v in n.outputs}
    first = {
        v
        for v in graph.inputs
        if v.type.dtype is DType.FLOAT32 and [n.op.name for n in readers.get(v, [])] == ["quantize"]
    }
    last = {
        v
        for v in graph.outputs
        if v in makers and makers[v].op.name == "dequantize" and v not in readers
    }
    return first, last


def _constants(graph: Graph) -> tuple[dict[str, Array], set[str]]:
    """Constants by name; int32 biases come as the float32 they mean, which XNNPACK takes.

    Also the nodes that this makes needless.
    """
    arrays = {v.name: np.asarray(a) for v, a in graph.initializers.items()}
    folded: set[str] = set()
    for node in graph.nodes:
        x = node.inputs[0]
        if node.op.name != "dequantize" or x not in graph.initializers:
            continue
        if x.type.dtype is not DType.INT8:
            arrays[node.name] = dequantize_array(graph.initializers[x], x.type)
            folded.add(node.name)
            continue
        for part, dtype in zip(_parts(node), (np.float32, np.int64), strict=False):
            arrays[f"{node.name}#{part}"] = np.array(getattr(_quant(node), part), dtype)
    return arrays, folded


def _parts(node: Node) -> tuple[str, ...]:
    """What a node needs as constants of the module, because XNNPACK looks for them there."""
    per_channel = node.op.name == "dequantize" and _quant(node).axis is not None
    return ("scale", "zero_point") if per_channel else ()


def _clamped(torch: Any, x: Any, bounds: tuple[float, float]) -> Any:
    low, high = bounds
    if (low, high) == (-np.inf, np.inf):
        return x
    if (low, high) == (0.0, np.inf):
        return torch.relu(x)
    return torch.nn.functional.hardtanh(x, low, high)


def _quant(node: Node) -> Quant:
    quant = node.outputs[0].type.quant if node.op.name == "quantize" else node.x.quant
    assert quant is not None
    return quant


def _rules(torch: Any) -> Mapping[str, Rule]:
    f = torch.nn.functional
    q = torch.ops.quantized_decomposed

    def conv2d(node: Node, x: list[Any]) -> Any:
        a = node.attrs
        top, left, bottom, right = a.pads
        pads = (top, left)
        if (top, left) != (bottom, right):
            x = [f.pad(x[0], (left, right, top, bottom)), *x[1:]]
            pads = (0, 0)
        return _clamped(torch, f.conv2d(*x, a.strides, pads, a.dilations, a.groups), a.clamp)

    def pool(node: Node, x: list[Any]) -> Any:
        a = node.attrs
        top, left, bottom, right = a.pads
        if (top, left) != (bottom, right) or getattr(a, "ceil_mode", False):
            raise NotComparable(f"{node.op.name} with uneven borders has no rule for torch")
        if node.op.name == "max_pool":
            return f.max_pool2d(x[0], a.kernel, a.strides, (top, left))
        counted = a.count_include_pad
        return f.avg_pool2d(x[0], a.kernel, a.strides, (top, left), count_include_pad=counted)

    def quantize(node: Node, x: list[Any]) -> Any:
        quant = _quant(node)
        return q.quantize_per_tensor(
            x[0], quant.scale[0], quant.zero_point[0], _LOW, _HIGH, torch.int8
        )

    def dequantize(node: Node, x: list[Any]) -> Any:
        quant = _quant(node)
        if quant.axis is None:
            return q.dequantize_per_tensor(
                x[0], quant.scale[0], quant.zero_point[0], _LOW, _HIGH, torch.int8
            )
        return q.dequantize_per_channel(*x, quant.axis, -_HIGH, _HIGH, torch.int8)

    def binary(function: Any) -> Rule:
        return lambda node, x: _clamped(torch, function(x[0], x[1]), node.attrs.clamp)

    return {
        "conv2d": conv2d,
        "dense": lambda node, x: _clamped(torch, f.linear(*x), node.attrs.clamp),
        "average_pool": pool,
        "max_pool": pool,
        "quantize": quantize,
        "dequantize": dequantize,
        "add": binary(torch.add),
        "sub": binary(torch.sub),
        "mul": binary(torch.mul),
        "reduce_mean": lambda node, x: _clamped(
            torch, torch.mean(x[0], node.attrs.axes, node.attrs.keepdims), node.attrs.clamp
        ),
        "softmax": lambda node, x: torch.softmax(x[0], node.attrs.axis),
        "reshape": lambda node, x: x[0].reshape(node.attrs.shape),
        "transpose": lambda node, x: x[0].permute(node.attrs.perm),
        "concat": lambda node, x: torch.cat(x, node.attrs.axis),
    }


def _unary(torch: Any) -> Mapping[str, Rule]:
    return {
        "relu": lambda node, x: torch.relu(x[0]),
        "clip": lambda node, x: torch.nn.functional.hardtanh(x[0], node.attrs.low, node.attrs.high),
        "sigmoid": lambda node, x: torch.sigmoid(x[0]),
        "tanh": lambda node, x: torch.tanh(x[0]),
        "hard_swish": lambda node, x: torch.nn.functional.hardswish(x[0]),
    }
