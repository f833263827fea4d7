"""dense, and conv2d over a single pixel: one row × eight channels per block."""

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


def _applies(node: Node, graph: Graph) -> bool:
    dense = node.op.name == "dense" or is_single_pixel(node)
    return dense and channels(node, graph) is not None


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    chunks = -(-k // 16)
    return {
        "k": k,
        "chunks": chunks,
        "unroll": unroll(chunks, _MAX_UNROLL),
        "rows": node.x.elements // k,
        "out_c": out_c,
        "blocks": -(-out_c // 8),
        "scale_up": bound_channels(node, graph).scale_up,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    """The row, padded to 16 (it is copied, as the output may lie over it), and eight outputs."""
    del graph
    return -(-node.x.shape[-1] // 16) * 16 + (-(-node.y.shape[-1] // 8) * 8)


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per eight channels: biases, per 16 of k a vector for each, {multipliers, shifts} × 2."""
    c = bound_channels(node, graph)
    w = graph.constant(node.inputs[1])
    w = pad_axis(pad_axis(w.reshape(w.shape[0], -1), 1, 16), 0, 8)
    bias, multiplier, shift = (pad_axis(a, 0, 8) for a in (c.bias, c.multiplier, c.shift))
    stream: list[bytes] = []
    for base in range(0, w.shape[0], 8):
        low, high = ([base + i for i in group] for group in channel_groups(8))
        both = low + high
        vectors = w[both].reshape(8, -1, 16).transpose(1, 0, 2)
        parts = (bias[both], vectors, multiplier[low], shift[low], multiplier[high], shift[high])
        stream += [np.ascontiguousarray(p).tobytes() for p in parts]
    return {"stream": Constant(np.frombuffer(b"".join(stream), np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    rows = node.x.elements // k
    return rows * (-(-out_c // 8) * (17.5 * -(-k // 16) + 24) + k / 2 + out_c / 2 + 40)


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
