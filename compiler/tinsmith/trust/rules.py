"""How every operator relates the orders of its axes: one rule each, or the reason to pin them.

A rule gets the axes of a node's inputs (constants too: they are what is permuted) and outputs. It
equates axes that must share an order and pins those that must stay natural. An axis it leaves alone
may have any order whatever the others do: a sum does not care.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..ir.graph import Node
from ..ir.opdef import Absent, OpDef
from ..ops.slice import rows as slice_rows
from ..ops.unary import OPS as UNARY
from .axes import Fixed, Joined, Nested, Orders, Term

Axes: TypeAlias = tuple[Term, ...]


@dataclass(frozen=True)
class NodeAxes:
    """The axes of one node's inputs and outputs."""

    node: Node
    inputs: Sequence[Axes]
    outputs: Sequence[Axes]
    orders: Orders

    @property
    def x(self) -> Axes:
        return self.inputs[0]

    @property
    def y(self) -> Axes:
        return self.outputs[0]

    def equate(self, a: Sequence[Term], b: Sequence[Term]) -> None:
        for first, second in zip(a, b, strict=True):
            self.orders.equate(first, second)

    def pin(self, *terms: Term) -> None:
        self.orders.pin(*terms)


Rule: TypeAlias = Callable[[NodeAxes], None]


def _same(a: NodeAxes) -> None:
    """Elementwise; a table has no channels."""
    a.equate(a.x, a.y)
    for table in a.inputs[1:]:
        a.pin(*table)


def _pixels(a: NodeAxes) -> None:
    """Windows, and pixels that are repeated: channels go through, rows and columns stay."""
    a.equate(a.x[::3], a.y[::3])
    a.pin(*a.x[1:3], *a.y[1:3])


def _conv2d(a: NodeAxes) -> None:
    w = a.inputs[1]
    groups, per_group = a.node.attrs.groups, w[3].size
    a.pin(*a.x[1:3], *a.y[1:3], *w[1:3])
    a.orders.equate(a.x[0], a.y[0])
    out = a.y[3]
    for per_channel in (w, *a.inputs[2:]):
        a.orders.equate(per_channel[0], out)
    if groups == 1:
        a.orders.equate(a.x[3], w[3])
    elif per_group == 1:  # depthwise: every channel's outputs move with it, in their own order
        many = a.orders.fresh(out.size // groups)
        a.orders.equate(out, Nested((a.x[3], many)))
    else:  # groups stay in place; inside, all have the input order that the filters can have once
        a.orders.equate(a.x[3], Nested((Fixed(groups), w[3])))
        inside = tuple(a.orders.fresh(out.size // groups) for _ in range(groups))
        a.orders.equate(out, Joined(inside))


def _dense(a: NodeAxes) -> None:
    w = a.inputs[1]
    a.equate(a.x[:-1], a.y[:-1])
    a.orders.equate(a.x[-1], w[1])
    for per_output in (w, *a.inputs[2:]):
        a.orders.equate(per_output[0], a.y[-1])


def _matmul(a: NodeAxes) -> None:
    left, right = a.inputs
    a.orders.equate(left[-1], right[-2])
    a.orders.equate(left[-2], a.y[-2])
    a.orders.equate(right[-1], a.y[-1])
    for batch in (left[:-2], right[:-2]):
        _broadcast(a, batch, a.y[:-2])


def _binary(a: NodeAxes) -> None:
    for operand in a.inputs:
        _broadcast(a, operand, a.y)


def _broadcast(a: NodeAxes, operand: Axes, y: Axes) -> None:
    for own, out in zip(operand[::-1], y[::-1], strict=False):
        if own.size == out.size:
            a.orders.equate(own, out)


def _reduce_mean(a: NodeAxes) -> None:
    axes = a.node.attrs.axes
    kept = [x for i, x in enumerate(a.x) if i not in axes]
    y = [t for i, t in enumerate(a.y) if i not in axes] if a.node.attrs.keepdims else a.y
    a.equate(kept, y)


def _concat(a: NodeAxes) -> None:
    axis = a.node.attrs.axis
    for x in a.inputs:
        a.equate(x[:axis] + x[axis + 1 :], a.y[:axis] + a.y[axis + 1 :])
    a.orders.equate(a.y[axis], Joined(tuple(x[axis] for x in a.inputs)))


def _split(a: NodeAxes) -> None:
    axis = a.node.attrs.axis
    for y in a.outputs:
        a.equate(y[:axis] + y[axis + 1 :], a.x[:axis] + a.x[axis + 1 :])
    a.orders.equate(a.x[axis], Joined(tuple(y[axis] for y in a.outputs)))


def _slice(a: NodeAxes) -> None:
    """A block of an axis is a block; every other element is not."""
    sliced = {axis: (start, size, step) for axis, start, size, step in slice_rows(a.node.attrs)}
    for axis, (x, y) in enumerate(zip(a.x, a.y, strict=True)):
        start, size, step = sliced.get(axis, (0, x.size, 1))
        if step == 1:
            a.orders.equate(y, a.orders.part(x, start, size))
        else:
            a.pin(x, y)


def _pad(a: NodeAxes) -> None:
    """Constant elements around a block; what an edge or a reflection repeats must stay."""
    attrs = a.node.attrs
    padded = {n: (b, c) for n, b, c in zip(attrs.axes, attrs.before, attrs.after, strict=True)}
    for axis, (x, y) in enumerate(zip(a.x, a.y, strict=True)):
        before, after = padded.get(axis, (0, 0))
        if (before or after) and attrs.mode != "constant":
            a.pin(x, y)
            continue
        parts = (Fixed(before), x, Fixed(after))
        a.orders.equate(y, Joined(tuple(p for p in parts if p.size)))


def _transpose(a: NodeAxes) -> None:
    a.equate([a.x[p] for p in a.node.attrs.perm], a.y)


def _reshape(a: NodeAxes) -> None:
    """Runs of axes that hold the same elements; the layout in use says which is fastest."""
    xs, ys = list(a.x), list(a.y)
    while xs or ys:
        left, right = [xs.pop(0)] if xs else [], [ys.pop(0)] if ys else []
        while Nested(tuple(left)).size != Nested(tuple(right)).size:
            if Nested(tuple(left)).size < Nested(tuple(right)).size:
                left.append(xs.pop(0))
            else:
                right.append(ys.pop(0))
        a.orders.equate(Nested(tuple(left)), Nested(tuple(right)))


RULES: Mapping[str, Rule] = {
    **{op.name: _same for op in UNARY},
    "add": _binary,
    "average_pool": _pixels,
    "concat": _concat,
    "conv2d": _conv2d,
    "dense": _dense,
    "identity": _same,
    "lookup": _same,
    "matmul": _matmul,
    "max_pool": _pixels,
    "mul": _binary,
    "pad": _pad,
    "reduce_mean": _reduce_mean,
    "reshape": _reshape,
    "resize": _pixels,
    "slice": _slice,
    "softmax": _same,  # its int8 form sums integers: any order of the row gives the same sum
    "split": _split,
    "sub": _binary,
    "transpose": _transpose,
}


def pinned_because(op: OpDef) -> str | None:
    """Why an operator without a rule needs none; None when it has one, or lacks both."""
    if op.name in RULES:
        return None
    rule = op.integer
    if isinstance(rule, Absent):
        return rule.reason
    return rule.reference.reason if isinstance(rule.reference, Absent) else _MADE_HERE.get(op.name)


_MADE_HERE: Mapping[str, str] = dict.fromkeys(
    ("permute_channels", "blind", "ring_conv2d", "unblind"),
    "the partition makes it, after the orders are chosen",
)


def relate(axes: NodeAxes) -> None:
    """Apply the node's rule; an operator without one pins all axes."""
    rule = RULES.get(axes.node.op.name)
    if rule is not None:
        rule(axes)
        return
    for terms in (*axes.inputs, *axes.outputs):
        axes.pin(*terms)
