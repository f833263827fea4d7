"""reduce_mean over any axes, int8 and float32.

Axes are merged into groups that are kept or summed. The last group runs in vectors: kept, every
lane is a mean of its own; summed, the lanes are added up at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...ir.dtypes import DType
from ...ir.graph import Node
from ...ops.reduce_mean import reduced_elements
from ..import_tvm import PrimFunc, T
from ..rule import Rule, Site
from ._emit import (
    Expr,
    Frame,
    Register,
    Tensor,
    clamp_real,
    const,
    define,
    nest,
    spans,
    tails,
    vector,
)
from ._integers import Output, requantize

_UNROLLED = 4  # partial sums of a vector that waits for its own addition otherwise
_Finish = Callable[[Expr, Expr, int], None]  # (sum, where it goes, lanes)


def build_integer(site: Site) -> PrimFunc:
    """Σ (x − z), rescaled once."""
    node = site.node
    multiplier, shift = (int(site.graph.constant(v)[0]) for v in node.inputs[1:])
    output = Output(node.y.zero_point, *node.attrs.q_clamp)
    count = reduced_elements(node)

    def body(frame: Frame) -> None:
        x = frame.x
        centre = count * (node.x.zero_point + x.offset)

        def finish(total: Expr, at: Expr, lanes: int) -> None:
            acc = total.astype(vector("int64", lanes)) - const(centre, "int64", lanes)
            value, dtype = requantize(acc, lanes, multiplier, shift, 255 * count)
            output.store(frame.y, at, value, lanes, dtype)

        _reduce(node, x, "int32", 2 * site.isa.lanes, finish)

    return define(site, body)


def build_float(site: Site) -> PrimFunc:
    """Σ x divided by their number."""
    node = site.node
    count = float(reduced_elements(node))

    def body(frame: Frame) -> None:
        def finish(total: Expr, at: Expr, lanes: int) -> None:
            mean = total / const(count, "float32", lanes)
            frame.y.put(at, clamp_real(mean, node.attrs.clamp, lanes), lanes)

        _reduce(node, frame.x, "float32", 2 * site.isa.lanes, finish)

    return define(site, body)


def applies(node: Node, graph: object) -> bool:
    """Sums of stored values, at most 255 each, fit int32."""
    del graph
    return reduced_elements(node) < 2**23


def _groups(node: Node) -> list[tuple[int, bool]]:
    """(elements, whether they are summed), neighbours of one kind merged, outermost first."""
    groups: list[tuple[int, bool]] = []
    for axis, size in enumerate(node.x.shape):
        summed = axis in node.attrs.axes
        if size == 1:
            continue
        if groups and groups[-1][1] == summed:
            groups[-1] = (groups[-1][0] * size, summed)
        else:
            groups.append((size, summed))
    return groups or [(1, False)]


def _reduce(node: Node, x: Tensor, dtype: str, lanes: int, finish: _Finish) -> None:
    groups = _groups(node)
    steps = [math.prod(size for size, _ in groups[i + 1 :]) for i in range(len(groups))]
    (run, summed), outer = groups[-1], list(zip(groups[:-1], steps, strict=False))
    kept = [(size, step) for (size, s), step in outer if not s]
    added = [(size, step) for (size, s), step in outer if s]
    places = [math.prod(size for size, _ in kept[i + 1 :]) for i in range(len(kept))]

    def take(acc: Register, at: Expr, width: int) -> None:
        acc.set(acc.value + x.raw(at, width).astype(vector(dtype, width)))

    def mean(*index: Expr) -> None:
        base = sum(i * step for i, (_, step) in zip(index, kept, strict=True))
        place = sum(i * p for i, p in zip(index, places, strict=True))
        if summed:
            total = _row_sum(x, dtype, lanes, run, [(s, t) for s, t in added], base, take)
            finish(total, place, 1)
            return

        def body(c: Expr, width: int) -> None:
            acc = Register.new(dtype, width)
            acc.set(const(0, dtype, width))
            nest(
                [size for size, _ in added],
                lambda *i: take(acc, base + _walk(i, added) + c, width),
            )
            finish(acc.value, place * run + c, width)

        spans(run, lanes, body)

    nest([size for size, _ in kept], mean)


def _walk(index: tuple[Expr, ...], axes: list[tuple[int, int]]) -> Expr:
    return sum(i * step for i, (_, step) in zip(index, axes, strict=True))


def _row_sum(
    x: Tensor,
    dtype: str,
    lanes: int,
    run: int,
    added: list[tuple[int, int]],
    base: Expr,
    take: Callable[[Register, Expr, int], None],
) -> Expr:
    """The sum over `added` loops of contiguous rows of `run` elements."""
    widths = ([lanes] if run >= lanes else []) + [
        w for _, w in tails(run - run % lanes, run, lanes)
    ]
    registers = {width: Register.new(dtype, width) for width in widths}
    for width, register in registers.items():
        register.set(const(0, dtype, width))
    nest(
        [size for size, _ in added],
        lambda *i: spans(
            run, lanes, lambda at, width: take(registers[width], base + _walk(i, added) + at, width)
        ),
    )
    total = const(0, dtype)
    for width, register in registers.items():
        held = Tensor(register.buffer, dtype)
        for lane in range(width):
            total = total + held.raw(lane)
    return T.bind(total)


RULES = (
    Rule("reduce_mean", build_integer, applies=applies),
    Rule("reduce_mean", build_float, DType.FLOAT32),
)
