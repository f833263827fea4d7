"""matmul of two computed tensors, int8 and float32: tiles of rows by vectors of columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ...kernels.portable._elementwise import binary_constants, broadcast_loops
from ...quant.arithmetic import INT32_MAX
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._contraction import Contraction, tile
from ._emit import Expr, Frame, Register, Tensor, const, define, loop, nest
from ._integers import Output, requantize
from ._strips import choose, column_blocks, strips
from ._taps import Windows

_ONE = Windows(1, 1, 1, 1, 0, 1)
_Finish = Callable[[Tensor, Expr, Register], None]  # (y, where, sum)


@dataclass(frozen=True)
class _Operand:
    """One factor: values of type `dtype`, from which `zero_point` is taken."""

    tensor: Tensor
    dtype: str
    zero_point: int

    def load(self, at: Expr, lanes: int = 1) -> Expr:
        value = self.tensor.load(at, lanes, self.dtype)
        return value - const(self.zero_point, self.dtype, lanes) if self.zero_point else value


def constants(site: Site) -> Mapping[str, Constant]:
    return binary_constants(site.node, site.graph)


def build_integer(site: Site) -> PrimFunc:
    """Σ (a − z_a)·(b − z_b), rescaled."""
    node = site.node
    output = Output(node.y.zero_point, -128, 127)

    def finish(y: Tensor, at: Expr, total: Register) -> None:
        factor = (node.attrs.multiplier, node.attrs.shift, _largest(node))
        value, dtype = requantize(total.value, total.lanes, *factor)
        output.store(y, at, value, total.lanes, dtype)

    return _build(site, "int32", finish)


def build_float(site: Site) -> PrimFunc:
    return _build(site, "float32", lambda y, at, total: y.put(at, total.value, total.lanes))


def applies(node: Node, graph: Graph) -> bool:
    """No sum leaves int32."""
    del graph
    return _largest(node) <= INT32_MAX


def _largest(node: Node) -> int:
    ranges = (128 + abs(v.type.zero_point) for v in node.inputs)
    return math.prod(ranges) * node.x.shape[-1]


def _build(site: Site, dtype: str, finish: _Finish) -> PrimFunc:
    node, lanes = site.node, site.isa.lanes
    a, b = (v.type for v in node.inputs)
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    batch = broadcast_loops(node.y.shape[:-2], [node.y.shape[:-2], a.shape[:-2], b.shape[:-2]])
    matrices = (rows * columns, rows * depth, depth * columns)
    across = Windows(rows, rows, 1, 1, 0, 1)
    shape = choose(rows, max(1, columns // lanes), site.isa.registers)

    def product(frame: Frame, starts: Sequence[Expr]) -> None:
        left, right = _operands(frame, node, dtype)
        for first, count, widths in column_blocks(columns, lanes, shape.vectors):
            with loop(count) as block:
                column = first + block * sum(widths)
                for strip in strips(across, shape.pixels):
                    with loop(strip.count) as t:
                        row = strip.first + t * strip.pixels
                        part = _Part(starts, row, column, widths, depth, columns)
                        c = part.contraction(left, right, lambda *at: finish(frame.y, *at))
                        tile(c, strip, _ONE, 0)

    def body(frame: Frame) -> None:
        def at(*index: Expr) -> None:
            starts = [
                sum(i * step[n] * size for i, (_, step) in zip(index, batch, strict=True))
                for n, size in enumerate(matrices)
            ]
            product(frame, starts)

        nest([count for count, _ in batch], at)

    return define(site, body, constants(site))


@dataclass(frozen=True)
class _Part:
    """The tile from (`row`, `column`) on of one product. starts: of y, a and b."""

    starts: Sequence[Expr]
    row: Expr
    column: Expr
    widths: Sequence[int]
    depth: int
    columns: int

    def contraction(
        self, left: _Operand, right: _Operand, finish: Callable[[Expr, Register], None]
    ) -> Contraction:
        y, a, b = self.starts
        places = [self.column + sum(self.widths[:v]) for v in range(len(self.widths))]

        def x(p: int, ky: Expr, kx: int, k: Expr) -> Expr:
            del ky, kx
            return left.load(a + (self.row + p) * self.depth + k)

        def w(ky: Expr, kx: int, k: Expr, v: int) -> Expr:
            del ky, kx
            return right.load(b + k * self.columns + places[v], self.widths[v])

        def store(p: int, v: int, total: Register) -> None:
            finish(y + (self.row + p) * self.columns + places[v], total)

        def zero(v: int) -> Expr:
            return const(0, left.dtype, self.widths[v])

        return Contraction(left.dtype, self.widths, self.depth, x, w, zero, store)


def _operands(frame: Frame, node: Node, dtype: str) -> tuple[_Operand, _Operand]:
    left, right = (
        _Operand(
            frame.inputs.get(i) or frame.constants["operand"],
            dtype,
            0 if dtype == "float32" else v.type.zero_point,
        )
        for i, v in enumerate(node.inputs)
    )
    return left, right


RULES = (
    Rule("matmul", build_integer, constants=constants, applies=applies),
    Rule("matmul", build_float, DType.FLOAT32, constants=constants),
)
