"""What each operator does with a permuted input: follow it, remap its axes, or ask for another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..ir.dtypes import Shape
from ..ir.graph import Graph, Node, Value
from ..ir.opdef import same_type
from ..ops import get
from ._layout import Layouts, Perm, channels_last, identity, keeps_order, permuted

Rule = Callable[[Node, Layouts], None]


def rule_for(node: Node) -> Rule:
    if hasattr(node.attrs, "layout"):
        return _image
    if node.op.infer is same_type:
        return _elementwise
    return _RULES.get(node.op.name, _fixed)


def is_image(graph: Graph, value: Value) -> bool:
    """Whether image operators, and nothing else, read the value, directly or through followers."""
    if value.type.rank not in (3, 4):
        return False
    waiting, seen, images = [value], {value}, 0
    while waiting:
        for node in graph.consumers.get(waiting.pop(), ()):
            if getattr(node.attrs, "layout", "NHWC") == "NCHW":
                images += 1
            elif node.op.name == "reduce_mean":
                continue  # it takes any layout, and what it makes is small
            elif _follows(node) or _adds_height(node):
                waiting += [v for v in node.outputs if v not in seen]
                seen.update(node.outputs)
            else:
                return False
    return images > 0


def _adds_height(node: Node) -> bool:
    """[N, C, W] → [N, C, 1, W], as the import of 1-D operators does."""
    n = node.x.shape
    return node.op.name == "reshape" and len(n) == 3 and node.y.shape == (n[0], n[1], 1, n[2])


def _follows(node: Node) -> bool:
    """Whether the node takes its first input in any layout."""
    return node.op.infer is same_type or node.op.name in _FOLLOWERS


def _fixed(node: Node, layouts: Layouts) -> None:
    """It knows only the layout it was written for."""
    inputs = [layouts.read(v) for v in node.inputs]
    layouts.write(node, inputs, [identity(v.type.rank) for v in node.outputs])


def _image(node: Node, layouts: Layouts) -> None:
    """Channels last; filters are permuted like images (OIHW → OHWI)."""
    if node.attrs.layout == "NHWC":
        _fixed(node, layouts)
        return
    inputs = [layouts.read(v, channels_last(v.type.rank)) for v in node.inputs]
    perms = [channels_last(v.type.rank) for v in node.outputs]
    layouts.write(node, inputs, perms, replace(node.attrs, layout="NHWC"))


def _elementwise(node: Node, layouts: Layouts) -> None:
    x = layouts.stored(node.inputs[0])
    others = [layouts.read(v) for v in node.inputs[1:]]
    layouts.write(node, [x.value, *others], [x.perm], columns=x.columns)


def _quantize(node: Node, layouts: Layouts) -> None:
    x, attrs = layouts.stored(node.inputs[0]), node.attrs
    if attrs.axis is not None:
        attrs = replace(attrs, axis=x.perm.index(attrs.axis))
    layouts.write(node, [x.value], [x.perm], attrs, x.columns)


def _transpose(node: Node, layouts: Layouts) -> None:
    """Nothing is emitted: only the meaning of the stored axes changes."""
    x, perm = layouts.stored(node.inputs[0]), node.attrs.perm
    if layouts.is_weight(node.inputs[0]):
        _fixed(node, layouts)
        return
    layouts.store(node.outputs[0], x.value, tuple(perm.index(p) for p in x.perm))


def _binary(node: Node, layouts: Layouts) -> None:
    """All operands in one layout: that of the largest computed one, rather permuted than not."""
    rank = node.y.rank
    perm = _common(node, layouts, rank)
    if perm == identity(rank):
        _fixed(node, layouts)
        return
    inputs: list[Value] = []
    for value in node.inputs:
        shape = (*(1,) * (rank - value.type.rank), *value.type.shape)
        if value.type.elements == 1 and value.type.rank <= 1:
            inputs.append(layouts.read(value))
        elif layouts.is_weight(value):
            inputs.append(layouts.weight(value, shape, perm))
        elif value.type.rank == rank:
            inputs.append(layouts.read(value, perm))
        else:
            inputs.append(_raised(node, layouts, value, shape, perm))
    layouts.write(node, inputs, [perm])


def _raised(node: Node, layouts: Layouts, value: Value, shape: Shape, perm: Perm) -> Value:
    """An operand of lower rank with its missing leading axes, permuted."""
    reshape = get("reshape")
    name = f"{value.name}.raised"
    emit = layouts.rewriter.emit
    (raised,) = emit(
        reshape, [layouts.read(value)], reshape.attrs(shape), origin=node.origin, name=name
    )
    op, attrs = get("transpose"), get("transpose").attrs(perm)
    if keeps_order(shape, perm):
        op, attrs = reshape, reshape.attrs(permuted(shape, perm))
    return emit(op, [raised], attrs, origin=node.origin, name=name)[0]


def _concat(node: Node, layouts: Layouts) -> None:
    perm = _common(node, layouts, node.y.rank)
    inputs = [layouts.read(v, perm) for v in node.inputs]
    layouts.write(node, inputs, [perm], replace(node.attrs, axis=perm.index(node.attrs.axis)))


def _one_axis(node: Node, layouts: Layouts) -> None:
    """split, softmax."""
    x = layouts.stored(node.inputs[0])
    attrs = replace(node.attrs, axis=x.perm.index(node.attrs.axis))
    layouts.write(node, [x.value], [x.perm] * len(node.outputs), attrs)


def _many_axes(node: Node, layouts: Layouts) -> None:
    """slice, pad: the axes with what belongs to each, in ascending order."""
    x, attrs = layouts.stored(node.inputs[0]), node.attrs
    fields = [k for k, v in vars(attrs).items() if isinstance(v, tuple)]
    at = fields.index("axes")
    given = zip(*(getattr(attrs, f) for f in fields), strict=True)
    moved = ((*r[:at], x.perm.index(r[at]), *r[at + 1 :]) for r in given)
    rows = sorted(moved, key=lambda r: r[at])
    columns = zip(*rows, strict=True) if rows else ((),) * len(fields)
    attrs = replace(attrs, **dict(zip(fields, columns, strict=True)))
    layouts.write(node, [x.value], [x.perm], attrs)


def _reduce(node: Node, layouts: Layouts) -> None:
    x, attrs = layouts.stored(node.inputs[0]), node.attrs
    axes = tuple(sorted(x.perm.index(a) for a in attrs.axes))
    perm = x.perm
    if not attrs.keepdims:
        kept = [p for p in perm if p not in attrs.axes]
        perm = tuple(sorted(kept).index(p) for p in kept)
    layouts.write(node, [x.value], [perm], replace(attrs, axes=axes))


def _dense(node: Node, layouts: Layouts) -> None:
    """Any order of the leading axes; reordered columns go into the weights."""
    x, rank = layouts.stored(node.inputs[0]), node.x.rank
    w, bias = node.inputs[1], layouts.read(node.inputs[2])
    if x.columns is not None:
        w = layouts.weight(w, w.type.shape, identity(2), x.columns)
        layouts.write(node, [x.value, w, bias], [identity(rank)])
        return
    perm = x.perm if x.perm[-1] == rank - 1 else identity(rank)
    layouts.write(node, [layouts.read(node.inputs[0], perm), layouts.read(w), bias], [perm])


def _reshape(node: Node, layouts: Layouts) -> None:
    value, y = node.inputs[0], node.outputs[0]
    x, shape = layouts.stored(value), node.y.shape
    if layouts.is_weight(value):
        _fixed(node, layouts)
        return
    nhwc = channels_last(len(shape))
    if x.perm == identity(value.type.rank):
        # a picture of one channel is NCHW and NHWC at once
        perm = (
            nhwc
            if keeps_order(shape, nhwc) and is_image(layouts.graph, y)
            else identity(len(shape))
        )
        layouts.write(node, [x.value], [perm], replace(node.attrs, shape=permuted(shape, perm)))
        return
    perm = _matching_perm(value.type.shape, x.perm, shape)
    if perm is not None:
        attrs = replace(node.attrs, shape=permuted(shape, perm))
        layouts.write(node, [x.value], [perm], attrs)
    elif (
        len(shape) == 2
        and shape[0] == math.prod(value.type.shape[:1])
        and x.perm[0] == 0
        and _only_dense(layouts.graph, y)
    ):
        flat = np.arange(shape[1]).reshape(value.type.shape[1:])
        columns = flat.transpose([p - 1 for p in x.perm[1:]]).ravel()
        layouts.write(node, [x.value], [identity(2)], columns=tuple(columns.tolist()))
    else:
        _fixed(node, layouts)


def _matching_perm(before: Shape, perm: Perm, after: Shape) -> Perm | None:
    """How `after` is stored when a reshape that adds or drops axes of one element moves no byte."""
    if [d for d in before if d != 1] != [d for d in after if d != 1]:
        return None
    # number the axes that hold data; the stored order is the same before and after
    data_before = [i for i, d in enumerate(before) if d != 1]
    data_after = [i for i, d in enumerate(after) if d != 1]
    order = [data_after[data_before.index(p)] for p in perm if before[p] != 1]
    for candidate in (channels_last(len(after)), identity(len(after))):
        if [p for p in candidate if after[p] != 1] == order:
            return candidate
    ones = [i for i, d in enumerate(after) if d == 1]
    return (*ones, *order)


def _only_dense(graph: Graph, value: Value) -> bool:
    """Whether only dense nodes with constant weights read the value, elementwise nodes between."""
    readers = graph.consumers.get(value, ())
    if value in graph.outputs or not readers:
        return False
    for node in readers:
        if node.op.name == "dense":
            stored = graph.producer.get(node.inputs[1])
            constant = graph.is_constant(node.inputs[1]) or (
                stored is not None
                and stored.op.name == "dequantize"
                and graph.is_constant(stored.inputs[0])
            )
            if not constant or value in node.inputs[1:]:
                return False
        elif node.op.infer is same_type or node.op.name in ("quantize", "dequantize"):
            if node.inputs.index(value) or not _only_dense(graph, node.outputs[0]):
                return False
        else:
            return False
    return True


def _common(node: Node, layouts: Layouts, rank: int) -> Perm:
    computed = [v for v in node.inputs if not layouts.is_weight(v) and v.type.rank == rank]
    perms = [(v.type.elements, layouts.stored(v).perm) for v in computed]
    if not perms:
        return identity(rank)
    return max(perms, key=lambda p: (p[0], p[1] != identity(rank)))[1]


_FOLLOWERS = (
    *("quantize", "dequantize", "add", "sub", "mul"),
    *("concat", "split", "slice", "pad", "softmax"),
)
_RULES: dict[str, Rule] = {
    "quantize": _quantize,
    "dequantize": _elementwise,
    "transpose": _transpose,
    "add": _binary,
    "sub": _binary,
    "mul": _binary,
    "concat": _concat,
    "split": _one_axis,
    "softmax": _one_axis,
    "slice": _many_axes,
    "pad": _many_axes,
    "reduce_mean": _reduce,
    "dense": _dense,
    "reshape": _reshape,
}
