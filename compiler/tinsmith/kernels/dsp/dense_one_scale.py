"""dense, and conv2d over a single pixel, when all channels have the same scale.

The scale is stored once, which saves 12 bytes a channel, and so is the shape: layers of any size
share one function, which saves most of the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..kernel import Constant
from ..packing import pad_axis, unroll
from ._row import row_kernels
from ._weights import bound_epilogue, channel_words, dense_words, is_exact, is_radix

_MAX_UNROLL = 8  # quads of k in the body of the loop: 0.45 kB of code


def _applies(node: Node, graph: Graph) -> bool:
    return is_exact(node, graph) and _scale(node, graph) is not None


def _scale(node: Node, graph: Graph) -> Array | None:
    """{m, C, C', s, s'}, the second of a kind for the second channel of each pair; None where
    channels differ."""
    _, rows = channel_words(bound_epilogue(node, graph), radix=is_radix(node, graph))
    given = rows.reshape(-1, 3)[: node.y.shape[-1]]
    even, odd = given[0::2], given[1::2] if len(given) > 1 else given
    same = (even == even[0]).all() and (odd == odd[0]).all() and even[0, 0] == odd[0, 0]
    return np.array([*even[0, :2], odd[0, 1], even[0, 2], odd[0, 2]]) if same else None


def _sizes(node: Node) -> tuple[int, int, int]:
    """Rows, quads of k, quads of channels."""
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    return node.x.elements // k, -(-k // 4), -(-out_c // 4)


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    rows, k_quads, _ = _sizes(node)
    body = unroll(k_quads, _MAX_UNROLL)
    whole = rows == 1 and node.x.shape[-1] % 4 == 0
    shared = whole and node.y.shape[-1] % 4 == 0  # the code is the same for all sizes
    return {
        **({"k": 0, "padded": 0, "out_c": 0} if shared else {}),
        "unroll": body,
        "loops": body < k_quads or body == _MAX_UNROLL,
        "rows_are_whole": whole,
        "radix": is_radix(node, graph),
        "scale_up": bound_epilogue(node, graph).scale_up,
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    radix = is_radix(node, graph)
    scale = _scale(node, graph)
    assert scale is not None, "applies() promised"
    _, k_quads, quads = _sizes(node)
    bias, _ = channel_words(bound_epilogue(node, graph), radix=radix)
    starts = pad_axis(bias.reshape(-1, 2), 0, 2).reshape(quads, 4)
    body = np.ravel(np.concatenate([starts, dense_words(node, graph, radix=radix)], 1))
    head = [k_quads * 8, body.size * 4, *scale]
    return {"stream": Constant(np.concatenate([head, body]).astype(np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    rows, k_quads, quads = _sizes(node)
    quad = 14 if is_radix(node, graph) else 18
    loops = k_quads // unroll(k_quads, _MAX_UNROLL)
    return rows * (quads * (quad * k_quads + 2 * loops + 26) + 6 * k_quads + 40)


KERNELS = row_kernels(
    "one_scale_row_dsp",
    "dense_one_scale.c.j2",
    4,
    applies=_applies,
    view=_view,
    constants=_constants,
    instructions=_instructions,
)
