"""add, sub and mul with broadcasting, int8 and float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...ir.dtypes import DType
from ...kernels import Constant
from ...kernels.portable._elementwise import binary_constants, broadcast_loops, in_place
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._emit import Expr, Frame, Tensor, clamp_real, const, define, nest, spans, wide_int
from ._integers import Output, requantize

_LANES = 16
_Combine = Callable[[Expr, Expr, int], "tuple[Expr, str]"]


def constants(site: Site) -> Mapping[str, Constant]:
    return binary_constants(site.node, site.graph)


def build_sum(site: Site) -> PrimFunc:
    """(x1·a + x2·b + c) >> n: by the choice of the constants all fits int32."""
    k = site.node.attrs

    def combine(x1: Expr, x2: Expr, lanes: int) -> tuple[Expr, str]:
        dtype = wide_int(lanes)
        a, b, c, n = (const(v, dtype, lanes) for v in (k.a, k.b, k.c, k.n))
        return (x1 * a + x2 * b + c) >> n, dtype

    return _build_integer(site, combine, zero_point=0)


def build_product(site: Site) -> PrimFunc:
    """(x1 − z1)·(x2 − z2), rescaled."""
    node = site.node
    z1, z2 = (v.type.zero_point for v in node.inputs)
    largest = (128 + abs(z1)) * (128 + abs(z2))

    def combine(x1: Expr, x2: Expr, lanes: int) -> tuple[Expr, str]:
        dtype = wide_int(lanes)
        acc = (x1 - const(z1, dtype, lanes)) * (x2 - const(z2, dtype, lanes))
        return requantize(acc, lanes, node.attrs.multiplier, node.attrs.shift, largest)

    return _build_integer(site, combine, node.y.zero_point)


def _build_integer(site: Site, combine: _Combine, zero_point: int) -> PrimFunc:
    output = Output(zero_point, *site.node.attrs.q_clamp)

    def element(operands: list[tuple[Tensor, Expr, int]], y: Tensor, at: Expr, lanes: int) -> None:
        dtype = wide_int(lanes)
        x1, x2 = (_operand(t, place, step, lanes, dtype) for t, place, step in operands)
        value, dtype = combine(x1, x2, lanes)
        output.store(y, at, value, lanes, dtype)

    return _build(site, element, _LANES)


def build_float(function: Callable[[Expr, Expr], Expr]) -> Callable[[Site], PrimFunc]:
    """function(x1, x2), clamped, in float32."""

    def build(site: Site) -> PrimFunc:
        def element(
            operands: list[tuple[Tensor, Expr, int]], y: Tensor, at: Expr, lanes: int
        ) -> None:
            x1, x2 = (_operand(t, place, step, lanes, "float32") for t, place, step in operands)
            y.put(at, clamp_real(function(x1, x2), site.node.attrs.clamp, lanes), lanes)

        return _build(site, element, 2 * site.isa.lanes)

    return build


def _operand(tensor: Tensor, at: Expr, step: int, lanes: int, dtype: str) -> Expr:
    return tensor.load(at, lanes, dtype) if step else tensor.spread(at, lanes, dtype)


def _build(
    site: Site,
    element: Callable[[list[tuple[Tensor, Expr, int]], Tensor, Expr, int], None],
    lanes: int,
) -> PrimFunc:
    """Nested loops over the broadcast operands; the innermost runs in vectors."""
    node = site.node
    shapes = [node.y.shape, *(v.type.shape for v in node.inputs)]
    *outer, (run, steps) = broadcast_loops(node.y.shape, shapes)

    def body(frame: Frame) -> None:
        operands = [frame.inputs.get(i) or frame.constants["operand"] for i in (0, 1)]

        def row(*index: Expr) -> None:
            def place(which: int) -> Expr:
                return sum(i * s[which] for i, (_, s) in zip(index, outer, strict=True))

            def body(at: Expr, width: int) -> None:
                taken = [
                    (tensor, place(n) + at * steps[n], steps[n])
                    for n, tensor in enumerate(operands, 1)
                ]
                element(taken, frame.y, place(0) + at, width)

            spans(run, lanes, body)

        nest([count for count, _ in outer], row)

    return define(site, body, constants(site), overlaps=True)


_INTEGER = {"add": build_sum, "sub": build_sum, "mul": build_product}
_REAL = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}

RULES = (
    *(Rule(op, build, constants=constants, lead_bytes=in_place) for op, build in _INTEGER.items()),
    *(
        Rule(op, build_float(f), DType.FLOAT32, constants=constants, lead_bytes=in_place)
        for op, f in _REAL.items()
    ),
)
