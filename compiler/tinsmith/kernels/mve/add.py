"""add and sub of two activations of one shape, four elements per turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ...quant.arithmetic import INT32_MAX
from ..kernel import Kernel
from ..portable._elementwise import in_place, is_plain
from ._weights import FEATURES

_FIRST_SHIFT, _SECOND_SHIFT = 16, 8  # of two narrowing shifts, at most


def _applies(node: Node, graph: Graph) -> bool:
    attrs = node.attrs
    if not is_plain(node, graph) or not 2 <= attrs.n <= _FIRST_SHIFT + _SECOND_SHIFT:
        return False
    return 128 * (abs(attrs.a) + abs(attrs.b)) + abs(_offset(node)) <= INT32_MAX


def _shifts(node: Node) -> tuple[int, int]:
    second = min(_SECOND_SHIFT, node.attrs.n - 1)
    return node.attrs.n - second, second


def _offset(node: Node) -> int:
    """c, less what the two shifts add to round."""
    first, second = _shifts(node)
    return node.attrs.c - (1 << (first - 1)) - (1 << (first + second - 1))


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    attrs = node.attrs
    first, second = _shifts(node)
    return {
        "elements": node.y.elements,
        "a": attrs.a,
        "b": attrs.b,
        "c": _offset(node),
        "first": first,
        "second": second,
        "q_min": attrs.q_clamp[0],
        "q_max": attrs.q_clamp[1],
    }


def _kernel(op: str) -> Kernel:
    return Kernel(
        name=f"{op}_mve",
        op=op,
        template="targets/arm-mve/kernels/add.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        lead_bytes=in_place,
        instructions=lambda node, graph: 2.0 * node.y.elements + 30.0,
    )


KERNELS = (_kernel("add"), _kernel("sub"))
