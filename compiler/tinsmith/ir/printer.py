"""Graph → `.tin` text. `parse(print_graph(g)) == g`; see `parser` for the grammar."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from typing import Any, cast

import numpy as np

from .dtypes import Array, Quant, TensorType
from .graph import Graph, Node, Value

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_INLINE_ELEMENTS = 16


def print_graph(graph: Graph, *, elide_constants: bool = False) -> str:
    """The whole graph. With `elide_constants`, large arrays print as `...`: for reading only."""
    lines = [f"graph {_quoted(graph.name)} stage={graph.stage.name}"]
    for i, v in enumerate(graph.inputs):
        lines.append(f"input {value_ref(v)} : {type_text(v.type)}{_layout(graph.input_layout(i))}")
    for v, array in graph.initializers.items():
        text = _array(array, elide_constants)
        lines.append(f"const {value_ref(v)} : {type_text(v.type)} = {text}")
    lines += [node_text(n) for n in graph.nodes]
    for i, v in enumerate(graph.outputs):
        lines.append(f"output {value_ref(v)}{_layout(graph.output_layout(i))}")
    lines += [f"update {value_ref(old)} = {value_ref(new)}" for old, new in graph.updates]
    return "\n".join(lines) + "\n"


def graph_hash(graph: Graph) -> str:
    """SHA-256 of the graph's text, in hexadecimal."""
    return hashlib.sha256(print_graph(graph).encode()).hexdigest()


def node_text(node: Node) -> str:
    """One node on one line."""
    left = ", ".join(f"{value_ref(v)} : {type_text(v.type)}" for v in node.outputs)
    args = ", ".join(value_ref(v) for v in node.inputs)
    text = f"{left} = {node.op.name}({args})"
    if attrs := attrs_text(node.attrs):
        text += f" {{{attrs}}}"
    o = node.origin
    if o.onnx_name or o.onnx_op or o.passes:
        text += f" @ {json.dumps(o.onnx_name)} {json.dumps(o.onnx_op)} [{', '.join(o.passes)}]"
    return text


def attrs_text(attrs: Any) -> str:
    """The attributes that differ from their defaults."""
    parts: list[str] = []
    for f in dataclasses.fields(attrs):
        value = getattr(attrs, f.name)
        if value != f.default:
            parts.append(f"{f.name}={literal(value)}")
    return ", ".join(parts)


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        items = cast("tuple[Any, ...]", value)
        return f"[{', '.join(map(literal, items))}]"
    if isinstance(value, str):
        return json.dumps(value)
    if value is None:
        return "none"
    if isinstance(value, (int, float)):
        return repr(value)
    raise TypeError(f"an attribute cannot hold {value!r}")


def value_ref(value: Value) -> str:
    return f"%{_quoted(value.name)}"


def type_text(type_: TensorType) -> str:
    text = f"{type_.dtype.value}[{', '.join(map(str, type_.shape))}]"
    return text + (f" q({_quant(type_.quant)})" if type_.quant else "")


def _quant(quant: Quant) -> str:
    if quant.axis is None:
        return f"{quant.scale[0]!r}, {quant.zero_point[0]}"
    return f"{literal(quant.scale)}, {literal(quant.zero_point)}, axis={quant.axis}"


def _layout(layout: tuple[int, ...] | None) -> str:
    return "" if layout is None else f" from {literal(layout)}"


def _quoted(name: str) -> str:
    return name if _PLAIN.match(name) else json.dumps(name)


def _array(array: Array, elide: bool) -> str:
    if array.size <= _INLINE_ELEMENTS:
        return literal(tuple(v.item() for v in np.ravel(array)))
    if elide:
        return "..."
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return f'base64"{base64.b64encode(little.tobytes()).decode()}"'
