"""3×3 convolutions of stride 1 through exact integer Winograd F(4×4, 3×3) (see `_winograd`).

A quarter of the multiplications. The transformed weights are 36 halves for 9 bytes: either they are
in flash in that form, at eight times their size, or they are made of int8 weights at run time. As
two channels' are made at a time, all tiles that use them must have their transformed inputs in
scratch; or the tiles are taken in groups, and the weights are transformed once for each. Every
number of groups is a kernel of its own: each doubling halves the scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import clamp_facts, conv_geometry
from ..kernel import Constant, Kernel
from ..packing import MIN_SHIFT, quad_pairs, unroll, words_of_halves
from ._uniform import INT16_MAX, CommonShift, common_shift
from ._weights import FEATURES
from ._winograd import (
    G,
    Tiling,
    border_instructions,
    channel_words,
    filters,
    has_windows,
    int8_stream,
    tiling,
)

INVERSE_OF_9 = 0x38E38E39  # modulo 2^32
_RAISED, _HELD = 6, 4  # bits of the outputs in the first row of a tile, and in the last two
_MAX_CHANNELS = 128
_MAX_GROUP_BYTES = 20 * 1024  # of inputs and products: more gains a few percent
_BODY = 12  # quads of inputs written out


def _shift(node: Node, graph: Graph) -> CommonShift | None:
    return common_shift(node, graph, raised=_RAISED, lowest=MIN_SHIFT + _RAISED - _HELD)


def _bound(node: Node, graph: Graph) -> CommonShift:
    shift = _shift(node, graph)
    assert shift is not None, "applies() promised"
    return shift


def _stride(in_c: int) -> int:
    """Bytes of a position: two tiles' inputs, and four products."""
    return 4 * in_c + 16


def _unroll(in_c: int) -> int:
    """Positions written out in the loop over them."""
    return unroll(36, max(1, _BODY // (in_c // 4)))


def stored(w: Array) -> Array:
    """[O, 3, 3, I] weights → the words of U, with the factor 6 that the products at the outermost
    positions need."""
    g = np.diag([6, 1, 1, 1, 1, 6]) @ G
    u = np.einsum("pi,oijc,qj->opqc", g, w, g).reshape(len(w), 36, w.shape[3])
    assert np.abs(u).max(initial=0) <= INT16_MAX
    words = words_of_halves(*quad_pairs(u))  # [O, 36, I/2]
    words = words.reshape(len(w) // 2, 2, 36, -1, 2).transpose(0, 2, 3, 1, 4)
    return np.ravel(words)


def _kernel(name: str, groups: int | None) -> Kernel:
    """groups: in how many the tiles are taken; None: pairs, one after the other, with weights that
    are stored transformed."""

    def group(tiles: Tiling) -> int:
        return 1 if groups is None else -(-tiles.pairs // groups)

    def group_bytes(node: Node) -> int:
        g = conv_geometry(node)
        return group(tiling(g)) * 36 * _stride(g.in_c)

    def applies(node: Node, graph: Graph) -> bool:
        if not has_windows(node, height=4, channels=_MAX_CHANNELS):
            return False
        pairs = tiling(conv_geometry(node)).pairs
        return (
            (groups is None or groups == 1 or 2 * groups <= pairs)
            and group_bytes(node) <= _MAX_GROUP_BYTES
            and _shift(node, graph) is not None
        )

    def view(node: Node, graph: Graph) -> Mapping[str, Any]:
        g = conv_geometry(node)
        tiles = tiling(g)
        return {
            **vars(g),
            **vars(tiles),
            "pairs": tiles.pairs,
            "group": group(tiles),
            "quads": g.in_c // 4,
            "stride": _stride(g.in_c),
            "unroll": _unroll(g.in_c),
            "stored": groups is None,
            "raised": groups is None,
            "shift": _bound(node, graph).total - 32,
            **clamp_facts(node),
        }

    def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
        shift = _bound(node, graph)
        w = filters(node, graph, shift)
        words = channel_words(node, graph, shift, raised=_RAISED, held=_HELD, inverse=INVERSE_OF_9)
        stream = stored(w) if groups is None else int8_stream(w)
        return {"stream": Constant(stream), "channels": Constant(words)}

    def scratch(node: Node, graph: Graph) -> int:
        """Inputs and products of a group; and a patch with its border, in whose place the
        transformed weights of two channels come later."""
        del graph
        g = conv_geometry(node)
        other = 37 * g.in_c if groups is None else 144 * g.in_c
        return group_bytes(node) + other

    def lead(node: Node, index: int) -> int | None:
        """All inputs of a group are read before its first output is written."""
        if index != 0:
            return None
        g = conv_geometry(node)
        spans = list(tiling(g).spans(g, group(tiling(g))))
        rows = [row for row, _ in spans]
        return max(
            (end - min(rows[n:]) * g.row_bytes for n, (_, end) in enumerate(spans[:-1], 1)),
            default=-node.x.bytes,
        )

    def instructions(node: Node, graph: Graph) -> float:
        del graph
        g = conv_geometry(node)
        tiles, quads = tiling(g), g.in_c // 4
        rounds = 36 // _unroll(g.in_c)
        products = 36 * (10 * quads + 1) + 3 * rounds + 20
        outputs = 2 * (2 * (260 if groups is None else 280) + 20)
        inputs = 2 * (734 * quads + 50)
        made = 0 if groups is None else -(-tiles.pairs // group(tiles)) * 69 * g.in_c * g.out_c
        return (
            tiles.pairs * (inputs + g.out_c / 2 * (products + outputs))
            + tiles.border(g, 6) * border_instructions(g, 6)
            + made
        )

    return Kernel(
        name=name,
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_winograd.c.j2",
        features=FEATURES,
        applies=applies,
        view=view,
        constants=constants,
        scratch_bytes=scratch,
        lead_bytes=lead,
        instructions=instructions,
    )


KERNELS = (
    _kernel("conv2d_winograd_dsp", None),
    *(_kernel(f"conv2d_winograd_int8_{n}_dsp", n) for n in (1, 2, 4, 8)),
)
