"""3×3 convolutions of stride 1 through exact integer Winograd F(4×4, 3×3).

The matrices of the usual form are scaled row by row to integers: G by (4, 6, 6, 24, 24, 1), and
what is missing to 24 goes to Aᵀ, whose rows are then divided by their common factor. So all of
  U = G g Gᵀ (|U| ≤ 49·127), V = Bᵀ d B (|V| ≤ 68·255, d being x + 128), Z = A (U·V) Aᵀ
is integer, U and V fit int16, and z = 9·2^(a_i + a_j)·acc at output (i, j), a = (3, 2, 1, 1).
Everything after is modulo 2^32: z·(9⁻¹·2^(6 − a_i − a_j)) = 64·acc, whatever overflowed before.
That is exact as long as 64·acc fits int32, which the bounds of the actual weights prove.

A quarter of the multiplications, for weights of eight times their size in flash: 36 halves for 9
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry
from ..kernel import Constant, Kernel
from ..packing import Epilogue, epilogue, quad_pairs, words_of_halves
from ._uniform import INT16_MAX, wrap32
from ._weights import FEATURES

TILE = 4
INVERSE_OF_9 = 0x38E38E39  # modulo 2^32
_G = np.array([[1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 1]], np.int64)
_RAISED = 6  # the accumulator comes out as 2^6·acc
_MAX_CHANNELS = 128
_INT8_LIMITS = (-128, 127)


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.kernel_h == g.kernel_w == 3
        and g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
        and g.in_c % 4 == 0
        and 8 <= g.in_c <= _MAX_CHANNELS
        and g.out_c % 2 == 0
        and g.out_h % TILE == 0
        and g.out_w % (2 * TILE) == 0
        and node.attrs.q_clamp == _INT8_LIMITS
        and _epilogue(node, graph) is not None
    )


def _epilogue(node: Node, graph: Graph) -> Epilogue | None:
    constants = epilogue(node, graph, _RAISED)
    return constants if constants is not None and constants.scale_up == 0 else None


def transformed(w: Array) -> Array:
    """[O, 3, 3, I] int8 weights → [O, 36, I] int64."""
    u = np.einsum("pi,oijc,qj->opqc", _G, w.astype(np.int64), _G)
    assert np.abs(u).max(initial=0) <= INT16_MAX
    return u.reshape(len(w), 36, w.shape[3])


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    e = _epilogue(node, graph)
    assert e is not None, "applies() promised"
    w = graph.constant(node.inputs[1])
    u = transformed(w)
    words = words_of_halves(*quad_pairs(u))  # [O, 36, I/2]
    words = words.reshape(len(w) // 2, 2, 36, -1, 2).transpose(0, 2, 3, 1, 4)
    start = e.bias.astype(np.int64) - 128 * w.astype(np.int64).sum((1, 2, 3))
    rows = [wrap32(start << _RAISED), e.multiplier, e.offset, e.shift]
    return {
        "stream": Constant(np.ravel(words)),
        "channels": Constant(np.ravel(np.stack(rows, 1))),
    }


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    g = conv_geometry(node)
    quads = g.in_c // 4
    return {
        **vars(g),
        "unroll": next(n for n in (6, 4, 3, 2, 1) if n * quads <= 24 or n == 1),
        "inverse": INVERSE_OF_9,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    """V of two tiles, the products of two tiles and two channels, a patch with its border."""
    del graph
    in_c = conv_geometry(node).in_c
    return 144 * in_c + 576 + 36 * in_c


def _lead(node: Node, index: int) -> int | None:
    """Rows are computed four at a time, of which the next four still need the last."""
    return _band_lead(conv_geometry(node)) if index == 0 else None


def _band_lead(g: Geometry) -> int:
    return max(
        (oy + TILE) * g.out_row_bytes - min(max(oy - g.pad_top, 0), g.in_h) * g.row_bytes
        for oy in range(0, g.out_h, TILE)
    )


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    tiles = g.pixels // TILE**2
    products = 36 * (10 * g.in_c // 4 + 4) + 20
    return tiles * (g.in_c * 240 + 120 + g.out_c / 4 * (products + 4 * 330 + 20))


KERNELS = (
    Kernel(
        name="conv2d_winograd_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_winograd.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)
