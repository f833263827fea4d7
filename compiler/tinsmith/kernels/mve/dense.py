"""dense, and conv2d over a single pixel: one row × eight channels per block.

The stream begins with the sizes, so that layers share the code. Where all channels have the same
scale it is stored there, once: 8 bytes a channel less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..geometry import clamp_facts, is_single_pixel, row_lead
from ..kernel import Constant, Kernel
from ..packing import pad_axis, unroll
from ._weights import FEATURES, bound_channels, channel_groups, channels

_MAX_UNROLL = 4
_SHORT = 64  # a row of which the copy is unrolled, and so not shared with layers of other lengths


def _applies(node: Node, graph: Graph) -> bool:
    dense = node.op.name == "dense" or is_single_pixel(node)
    return dense and channels(node, graph) is not None


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    rows, chunks = node.x.elements // k, -(-k // 16)
    body = unroll(chunks, _MAX_UNROLL)
    whole_row = rows == 1 and k % 16 == 0 and k > _SHORT
    shared = whole_row and out_c % 8 == 0  # the code is the same for all sizes
    return {
        "k": 0 if shared else k,
        "chunks": 0 if shared else chunks,
        "out_c": 0 if shared else out_c,
        "unroll": body,
        "loops": body < chunks or body == _MAX_UNROLL,
        "whole_row": whole_row,
        "one_scale": _has_one_scale(node, graph),
        "rows": rows,
        "scale_up": bound_channels(node, graph).scale_up,
        **clamp_facts(node),
    }


def _has_one_scale(node: Node, graph: Graph) -> bool:
    c = bound_channels(node, graph)
    return all(bool((a == a[0]).all()) for a in (c.multiplier, c.shift))


def _scratch(node: Node, graph: Graph) -> int:
    """The row, padded to 16 (it is copied, as the output may lie over it), and its outputs where
    there are more of them than channels."""
    del graph
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    return -(-k // 16) * 16 + (-(-out_c // 8) * 8 if out_c % 8 else 0)


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Four words: bytes of a row, {multiplier, shift} if common, eights of channels; then for
    each of these biases, per 16 of k a vector for each, {multipliers, shifts} × 2 if not common."""
    c = bound_channels(node, graph)
    w = graph.constant(node.inputs[1])
    w = pad_axis(pad_axis(w.reshape(w.shape[0], -1), 1, 16), 0, 8)
    bias, multiplier, shift = (pad_axis(a, 0, 8) for a in (c.bias, c.multiplier, c.shift))
    one_scale = _has_one_scale(node, graph)
    scale = (c.multiplier[0], c.shift[0]) if one_scale else (0, 0)
    head = [w.shape[1], *scale, len(w) // 8]
    stream = [np.array(head, np.int32).tobytes()]
    for base in range(0, w.shape[0], 8):
        low, high = ([base + i for i in group] for group in channel_groups(8))
        both = low + high
        vectors = w[both].reshape(8, -1, 16).transpose(1, 0, 2)
        parts = [bias[both], vectors]
        if not one_scale:
            parts += [multiplier[low], shift[low], multiplier[high], shift[high]]
        stream += [np.ascontiguousarray(p).tobytes() for p in parts]
    return {"stream": Constant(np.frombuffer(b"".join(stream), np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    rows = node.x.elements // k
    block = 17.5 * -(-k // 16) + (22 if _has_one_scale(node, graph) else 25)
    return rows * (-(-out_c // 8) * block + k / 2 + (out_c / 2 if out_c % 8 else 0) + 40)


KERNELS = tuple(
    Kernel(
        name=f"{op}_row_mve",
        op=op,
        template="targets/arm-mve/kernels/dense.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=row_lead,
        instructions=_instructions,
    )
    for op in ("dense", "conv2d")
)
