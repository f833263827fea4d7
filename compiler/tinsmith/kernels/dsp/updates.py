"""Updates of biases, and of the weights of pointwise layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ...ops._convolution import is_pointwise
from ..kernel import Kernel
from ..packing import unroll
from ..portable import velocity
from ..portable import weight_update as portable
from ._weights import FEATURES

_REACH = 4095  # of a 12-bit offset
_MAX_UNROLL = 8
_MAX_PIXELS = 256  # whose sum of bytes fits a half


def _pixels(node: Node) -> int:
    return node.x.shape[1] * node.x.shape[2]


def _bias_applies(node: Node, graph: Graph) -> bool:
    del graph
    channels = node.x.shape[-1]
    return channels % 4 == 0 and node.x.elements // channels <= _MAX_PIXELS


def _weights_apply(node: Node, graph: Graph) -> bool:
    del graph
    attrs = node.attrs
    out = node.x.shape[3]
    _, kernel_h, kernel_w, channels = portable.filters(node).shape
    return (
        portable.takes_int8(node)
        and is_pointwise((kernel_h, kernel_w), attrs)
        and attrs.strides == (1, 1)
        and node.x.shape[0] == 1
        and _pixels(node) >= 4
        and out % 4 == 0
        and channels % 2 == 0
        and 3 * channels <= _REACH
        and 8 * _pixels(node) < 2**16
    )


def _weights_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    facts = portable.view(node, graph)
    row, pixels = facts["channels"], _pixels(node)
    reach = (_REACH - 3 * row) // (4 * row) + 1
    return {**facts, "pixels": pixels, "unroll": unroll(pixels // 4, min(_MAX_UNROLL, reach))}


def _weights_scratch(node: Node, graph: Graph) -> int:
    del graph
    return 8 * (_pixels(node) // 4 * 4) + 16 * portable.filters(node).shape[3]


def _weights_instructions(node: Node, graph: Graph) -> float:
    del graph
    moving = portable.filters(node).elements
    return 1.05 * node.op.macs(node) + 38.0 * moving + 3.0 * node.x.elements


_UPDATES = (
    Kernel(
        name="bias_update_dsp",
        op="bias_update",
        template="targets/arm-dsp/kernels/bias_update.c.j2",
        features=FEATURES,
        applies=_bias_applies,
        view=portable.bias_view,
        constants=portable.bias_constants,
        state=portable.bias_state,
        instructions=lambda node, graph: 1.6 * node.x.elements + 15.0 * node.x.shape[-1],
    ),
    Kernel(
        name="weight_update_dsp",
        op="weight_update",
        template="targets/arm-dsp/kernels/weight_update.c.j2",
        features=FEATURES,
        applies=_weights_apply,
        view=_weights_view,
        constants=portable.constants,
        state=portable.state,
        scratch_bytes=_weights_scratch,
        instructions=_weights_instructions,
    ),
)
KERNELS = (*_UPDATES, *(velocity.accumulates(k) for k in _UPDATES))
