"""Convolution (groups = 1) as a matrix product: four pixels × two channels per block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ._loops import loop
from ._weights import (
    FEATURES,
    MAX_STORE_OFFSET,
    bound_epilogue,
    channel_words,
    filters,
    is_exact,
    is_radix,
    weight_words,
)

_MAX_BODY = 18  # pairs of k in the body of the loop


def _gemm_applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.pixels > 1
        and 3 * (g.out_c + 1) + 1 <= MAX_STORE_OFFSET
        and is_exact(node, graph)
    )


def _k_pairs(g: Geometry) -> int:
    return -(-g.kernel_h * g.kernel_w * g.in_c // 4) * 2


def _gemm_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    k_pairs = _k_pairs(g)
    return {
        **vars(g),
        "k": g.kernel_h * g.kernel_w * g.in_c,
        "k_pairs": k_pairs,
        **loop(k_pairs - 1, _MAX_BODY),
        "stream_bytes": -(-g.out_c // 2) * (2 + k_pairs + 6) * 4,
        "pixels": g.pixels,
        "direct_rows": g.is_pointwise and g.in_c % 4 == 0,
        "direct_store": g.out_c % 2 == 0,
        "out_stride": g.out_c + g.out_c % 2,
        "gather_bytes": _gather_bytes(g),
        "rows_bytes": _rows_bytes(g),
        "radix": is_radix(node, graph),
        "scale_up": bound_epilogue(node, graph).scale_up,
        **clamp_facts(node),
    }


def _gather_bytes(g: Geometry) -> int:
    return 0 if g.is_pointwise and g.in_c % 4 == 0 else _k_pairs(g) * 2


def _rows_bytes(g: Geometry) -> int:
    whole_groups = g.pixels % 4 == 0 and g.out_c % 2 == 0
    return 0 if whole_groups else 4 * (g.out_c + g.out_c % 2)


def _gemm_scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    return _k_pairs(g) * 16 + _gather_bytes(g) + _rows_bytes(g)


def _gemm_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    radix = is_radix(node, graph)
    bias, rows = channel_words(bound_epilogue(node, graph), radix=radix)
    words = weight_words(filters(node, graph), radix=radix)
    stream = np.concatenate([bias, words, rows.reshape(-1, 6)], 1)
    return {"stream": Constant(np.ravel(stream))}


def _gemm_instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    k = _k_pairs(g)
    groups = -(-g.pixels // 4)
    gather = k * 2 * (1.4 if g.is_pointwise else 2.2) * 4
    return groups * (
        -(-g.out_c // 2) * (12 * k + 3 * loop(k - 1, _MAX_BODY)["rounds"] + 50) + gather + 40
    )


KERNELS = (
    Kernel(
        name="conv2d_gemm_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_gemm.c.j2",
        features=FEATURES,
        applies=_gemm_applies,
        view=_gemm_view,
        constants=_gemm_constants,
        scratch_bytes=_gemm_scratch,
        lead_bytes=window_lead,
        instructions=_gemm_instructions,
    ),
)
