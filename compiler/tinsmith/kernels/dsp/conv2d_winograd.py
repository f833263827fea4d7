"""3×3 convolutions of stride 1 through exact integer Winograd F(4×4, 3×3) and F(2×2, 3×3).

A quarter of the multiplications, or 4 of 9 (see `_winograd`). The transformed weights are 36, or
16, halves for 9 bytes: either they are in flash in that form, at eight times their size, or 3.6; or
they are made of int8 weights at run time. As two channels' are made at a time, all tiles that use
them must have their transformed inputs in scratch; or the tiles are taken in groups, and the
weights are transformed once for each. Every number of groups is a kernel of its own: each doubling
halves the scratch.

The products are those of a block: two tiles × two channels; or of stored weights one tile × four
channels, which takes 5 % more instructions, half the scratch, and no tile for nothing where their
number is odd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..geometry import clamp_facts, conv_geometry
from ..kernel import Constant, Kernel
from ..packing import unroll
from ._weights import FEATURES
from ._winograd import (
    F2,
    F4,
    Form,
    Tiling,
    channel_words,
    filters,
    has_windows,
    int8_stream,
    stored,
    tiling,
)

_MAX_CHANNELS = 128
_MAX_GROUP_BYTES = 20 * 1024  # of inputs and products: more gains a few percent
_BODY = 12  # quads of inputs written out
_PRODUCTS = 4  # of a block: tiles × channels


def _kernel(name: str, form: Form, block: int, groups: int | None) -> Kernel:
    """block: its tiles. groups: in how many the blocks are taken; None: one after the other, with
    weights that are stored transformed."""
    channels = _PRODUCTS // block

    def tiles(node: Node) -> Tiling:
        return tiling(conv_geometry(node), form.size)

    def blocks(node: Node) -> int:
        return -(-tiles(node).count // block)

    def group(node: Node) -> int:
        return 1 if groups is None else -(-blocks(node) // groups)

    def stride(node: Node) -> int:
        """Bytes of a position: the inputs of a block's tiles, and its products."""
        return 2 * block * node.x.shape[3] + 4 * _PRODUCTS

    def unrolled(node: Node) -> int:
        """Positions written out in the loop over them."""
        return unroll(form.positions, max(1, _BODY // (node.x.shape[3] // 4)))

    def group_bytes(node: Node) -> int:
        return group(node) * form.positions * stride(node)

    def applies(node: Node, graph: Graph) -> bool:
        return (
            has_windows(node, height=form.size, width=form.size, channels=_MAX_CHANNELS)
            and node.y.shape[3] % channels == 0
            and (groups is None or groups == 1 or 2 * groups <= blocks(node))
            and group_bytes(node) <= _MAX_GROUP_BYTES
            and form.scale.shift(node, graph) is not None
        )

    def view(node: Node, graph: Graph) -> Mapping[str, Any]:
        g = conv_geometry(node)
        return {
            **vars(g),
            **vars(tiles(node)),
            "tiles": tiles(node).count,
            "positions": form.positions,
            "patch": form.patch,
            "block": block,
            "block_channels": channels,
            "blocks": blocks(node),
            "group": group(node),
            "quads": g.in_c // 4,
            "stride": stride(node),
            "unroll": unrolled(node),
            "stored": groups is None,
            "raised": groups is None,
            "shift": form.scale.bound_shift(node, graph).total - 32,
            **clamp_facts(node),
        }

    def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
        w = filters(node, graph, form.scale.bound_shift(node, graph))
        words = channel_words(node, graph, form.scale)
        stream = stored(form, w, channels) if groups is None else int8_stream(w)
        return {"stream": Constant(stream), "channels": Constant(words)}

    def scratch(node: Node, graph: Graph) -> int:
        """Inputs and products of a group; and a patch with its border, in whose place the
        transformed weights of two channels come later."""
        del graph
        other = 1 if groups is None else 4
        return group_bytes(node) + other * form.positions * node.x.shape[3]

    def lead(node: Node, index: int) -> int | None:
        """All inputs of a group are read before its first output is written."""
        if index != 0:
            return None
        return tiles(node).lead(conv_geometry(node), block * group(node))

    def instructions(node: Node, graph: Graph) -> float:
        del graph
        g = conv_geometry(node)
        quads = g.in_c // 4
        multiply = 10 * quads if block == 2 else 10 * quads + quads // 2 + quads % 2
        products = form.positions * (multiply + 1) + 3 * form.positions // unrolled(node) + 20
        low, high = node.attrs.q_clamp
        clamp = 3 * form.size**2 * ((low > -128) + (high < 127))
        output = form.output + clamp + (0 if groups is None else form.unscaled)
        outputs = block * (channels * output + 20)
        inputs = block * (form.input * quads + 50)
        made = 0 if groups is None else -(-blocks(node) // group(node))
        return (
            blocks(node) * (inputs + g.out_c / channels * (products + outputs))
            + tiles(node).patches(g, blocks(node) * block).instructions(g.in_c)
            + made * form.weight * quads * g.out_c
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
    _kernel("conv2d_winograd_dsp", F4, 2, None),
    _kernel("conv2d_winograd_single_dsp", F4, 1, None),
    *(_kernel(f"conv2d_winograd_int8_{n}_dsp", F4, 2, n) for n in (1, 2, 4, 8)),
    _kernel("conv2d_winograd_2x2_dsp", F2, 2, None),
    _kernel("conv2d_winograd_2x2_single_dsp", F2, 1, None),
    *(_kernel(f"conv2d_winograd_2x2_int8_{n}_dsp", F2, 2, n) for n in (1, 2, 4)),
)
