"""Updates of the weights of pointwise layers: one output channel × eight columns per block.

The gradient and the layer's input are transposed, so that a sum over pixels is one of bytes side by
side. Columns are taken in slabs that fit the scratch, for each of which the gradient is transposed
again; the rule residual8 updates eight weights at a time, as their sums leave the registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ...ops._convolution import is_pointwise
from ..kernel import Kernel
from ..portable import velocity
from ..portable import weight_update as portable
from ._weights import FEATURES

_VECTOR, _AT_ONCE = 16, 8  # pixels; channels
_SLAB_BYTES, _MOST_BYTES = 2048, 8192


def _pixels(node: Node) -> int:
    return node.x.shape[1] * node.x.shape[2]


def _group_bytes(node: Node) -> int:
    """Of eight channels, transposed."""
    return _AT_ONCE * -(-_pixels(node) // _VECTOR) * _VECTOR


def _slab(node: Node) -> int:
    """Groups of eight columns at a time; all of them where the rule draws in the weights' order."""
    groups = -(-portable.filters(node).shape[3] // _AT_ONCE)
    if getattr(node.attrs, "rule", "") == "stochastic":
        return groups
    return min(groups, max(1, _SLAB_BYTES // _group_bytes(node)))


def is_fused(node: Node) -> bool:
    """Whether the rule takes the sums from registers, see residual8.j2."""
    rule = getattr(node.attrs, "rule", "")
    return rule == "residual8" and not getattr(node.attrs, "weight_decay", 0.0)


def _applies(node: Node, graph: Graph) -> bool:
    attrs = node.attrs
    kernel = portable.filters(node).shape[1:3]
    return (
        portable.takes_int8(node)
        and is_pointwise((kernel[0], kernel[1]), attrs)
        and attrs.strides == (1, 1)
        and node.x.shape[0] == 1
        and _scratch(node, graph) <= _MOST_BYTES
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    facts, slab = portable.view(node, graph), _slab(node)
    return {
        **facts,
        "pixels": _pixels(node),
        "chunks": -(-_pixels(node) // _VECTOR),
        "slab": slab,
        "slabs": -(-facts["channels"] // (_AT_ONCE * slab)),
        "fused": is_fused(node),
        "cut": facts["channels"] % _AT_ONCE != 0,
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    slab = _slab(node)
    sums = 0 if is_fused(node) else 4 * _AT_ONCE * slab
    return (slab + 1) * _group_bytes(node) + sums


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    out, channels = node.x.shape[3], portable.filters(node).shape[3]
    pixels, chunks = _pixels(node), -(-_pixels(node) // _VECTOR)
    groups = -(-channels // _AT_ONCE)
    slabs = -(-groups // _slab(node))
    turned = groups * chunks * 25 + (groups + slabs * -(-out // _AT_ONCE)) * (4.3 * pixels + 25)
    block = 16 * chunks + (0 if chunks <= 4 else 3 * chunks + 12) + 8
    rule = 30 + 9 * (channels % _AT_ONCE > 0) if is_fused(node) else 2 + 34 * _AT_ONCE
    return turned + out * (groups * (block + rule) + slabs * (55 + 2 * chunks)) + 100


_UPDATE = Kernel(
    name="weight_update_mve",
    op="weight_update",
    template="targets/arm-mve/kernels/weight_update.c.j2",
    features=FEATURES | {"fpu"},
    applies=_applies,
    view=_view,
    constants=portable.constants,
    state=portable.state,
    scratch_bytes=_scratch,
    instructions=_instructions,
)

KERNELS = (_UPDATE, velocity.accumulates(_UPDATE))
