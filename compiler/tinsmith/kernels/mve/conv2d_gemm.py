"""Convolution (groups = 1) as a matrix product: two pixels × four channels per block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry, forward_lead
from ..kernel import Constant, Kernel
from ..packing import pad_axis, unroll
from ._weights import FEATURES, channel_groups, channels, rescaling

MAX_UNROLL = 6


def _applies(node: Node, graph: Graph) -> bool:
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and conv_geometry(node).pixels > 1
        and channels(node, graph) is not None
    )


def _k(g: Geometry) -> int:
    return g.kernel_h * g.kernel_w * g.in_c


def _is_direct(g: Geometry) -> bool:
    """The block reads the input where it lies: word-aligned pixels, no window."""
    return g.is_pointwise and g.in_c % 4 == 0


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    k, direct = _k(g), _is_direct(g)
    whole, tail = (k // 16, k % 16) if direct else (-(-k // 16), 0)
    return {
        **vars(g),
        "k": k,
        "direct": direct,
        "inner": g.is_inner,
        "chunks": whole,
        "tail": tail,
        "unroll": unroll(whole, MAX_UNROLL) if whole else 0,
        "x_step": k if direct else -(-k // 16) * 16,
        "y_step": -(-g.out_c // 4) * 4,
        "pixels": g.pixels,
        "padded_c": -(-g.out_c // 4) * 4,
        **clamp_facts(node),
        **rescaling(node, graph).facts,
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    gather = 0 if _is_direct(g) else 2 * -(-_k(g) // 16) * 16
    return gather + (2 * -(-g.out_c // 4) * 4 if g.out_c % 4 else 0)


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per four channels: their biases twice, per 16 of k a vector for each, multipliers and, where
    they differ, shifts."""
    r = rescaling(node, graph).padded(4)
    w = graph.constant(node.inputs[1])
    w = pad_axis(pad_axis(w.reshape(w.shape[0], -1), 1, 16), 0, 4)
    stream: list[bytes] = []
    for group in channel_groups(w.shape[0]):
        vectors = w[group].reshape(4, -1, 16).transpose(1, 0, 2)
        parts = (r.bias[group], r.bias[group], vectors, *r.scales_of(group))
        stream += [np.ascontiguousarray(p).tobytes() for p in parts]
    return {"stream": Constant(np.frombuffer(b"".join(stream), np.int32))}


def _lead(node: Node, index: int) -> int | None:
    """Direct: a pair of pixels is still read while it is written; else it is gathered first."""
    if index != 0:
        return None
    g = conv_geometry(node)
    if not _is_direct(g):
        return forward_lead(g)
    pairs = -(-g.pixels // 2)
    return 2 * g.out_c + max(0, (pairs - 1) * 2 * (g.out_c - g.in_c))


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    chunks = -(-_k(g) // 16)
    gather = 0.0 if _is_direct(g) else 2 * (_k(g) * 0.6 + 30)
    return -(-g.pixels // 2) * (-(-g.out_c // 4) * (14.3 * chunks + 12.5) + gather + 13)


KERNELS = (
    Kernel(
        name="conv2d_gemm_mve",
        op="conv2d",
        template="targets/arm-mve/kernels/conv2d_gemm.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=constants,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)
