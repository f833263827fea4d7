"""bias_update of int8 gradients: exact sums over the pixels, then a step in place."""

from __future__ import annotations

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...kernels.portable import weight_update as portable
from ...quant.arithmetic import INT32_MAX
from ..import_tvm import PrimFunc, tirx
from ..rule import Rule, Site
from ._emit import Expr, Frame, Register, bind, broadcast, const, define, loop, spans, vector
from ._float_functions import power_of_two
from ._update_rules import bounded, whole

_G, _EXPONENT, _RATE = 0, 1, 2  # positions among the inputs
_BIAS_LIMIT = 2**30


def _pixels(node: Node) -> int:
    return node.x.elements // node.x.shape[-1]


def applies(node: Node, graph: Graph) -> bool:
    """int8 gradients whose sums fit int32."""
    given = {node.inputs[i] for i in (_G, _EXPONENT, _RATE)}
    return (
        node.x.dtype is DType.INT8
        and given <= set(graph.activations(node))
        and _pixels(node) * 128 <= INT32_MAX
    )


def build(site: Site) -> PrimFunc:
    node, constants = site.node, portable.bias_constants(site.node, site.graph)
    channels = node.x.shape[-1]

    def body(frame: Frame) -> None:
        exponent, rate = (bind(frame.inputs[i].raw(0)) for i in (_EXPONENT, _RATE))
        power = bind(power_of_two(exponent))

        def step(at: Expr, lanes: int) -> None:
            total = Register.new("int32", lanes)
            total.set(const(0, "int32", lanes))
            with loop(_pixels(node)) as pixel:
                g = frame.inputs[_G].load(pixel * channels + at, lanes, "int32")
                total.set(total.value + g)
            coefficient = bind(frame.constants["coefficient"].raw(at, lanes))
            scale = coefficient * broadcast(rate, lanes) * broadcast(power, lanes)
            taken = whole(
                total.value.astype(vector("float32", lanes)) * scale, lanes, float(_BIAS_LIMIT)
            )
            old = bind(frame.constants["bias"].raw(at, lanes))
            new = _moved(old, taken, lanes)
            learns = coefficient != const(0, "float32", lanes)
            frame.constants["bias"].put(at, tirx.Select(learns, new, old), lanes)

        spans(channels, site.isa.lanes, step)

    return define(site, body, constants, state=portable.bias_state(node, site.graph))


def _moved(old: Expr, taken: Expr, lanes: int) -> Expr:
    """clamp(old − taken, ±2^30), whatever int32 the old one is."""
    wide = old.astype(vector("int64", lanes)) - taken.astype(vector("int64", lanes))
    return bounded(wide, -_BIAS_LIMIT, _BIAS_LIMIT, lanes, "int64").astype(vector("int32", lanes))


RULES = (
    Rule(
        "bias_update",
        build,
        DType.INT32,
        constants=lambda site: portable.bias_constants(site.node, site.graph),
        applies=applies,
        state=portable.bias_state,
    ),
)
