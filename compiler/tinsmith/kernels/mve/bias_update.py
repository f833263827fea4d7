"""Updates of biases: eight channels at a time, summed in int16 lanes.

A vector flushes a subnormal product of a sum and its scale to 0, as the step rounds to anyway; the
scales themselves are made one at a time.
"""

from __future__ import annotations

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable import weight_update as portable
from ._weights import FEATURES

_AT_ONCE = 8


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    return node.x.dtype is DType.INT8 and node.x.shape[-1] % _AT_ONCE == 0


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels
    return channels / _AT_ONCE * (3.4 * pixels + 110 + 10 * (pixels // 256)) + 40


KERNELS = (
    Kernel(
        name="bias_update_mve",
        op="bias_update",
        template="targets/arm-mve/kernels/bias_update.c.j2",
        features=FEATURES | {"fpu"},
        applies=_applies,
        view=portable.bias_view,
        constants=portable.bias_constants,
        state=portable.bias_state,
        instructions=_instructions,
    ),
)
