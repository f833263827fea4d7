"""Average and max pooling: four channels at a time, in lanes of a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ...ops._pool import PoolAttrs, taps_inside
from ..kernel import Constant, Kernel
from ..portable import average_pool, max_pool
from ..portable._pool import lead_bytes
from ._half_scale import HalfScale, half_scale
from ._weights import FEATURES, MAX_STORE_OFFSET

_LANES = 4
_MOST_CHANNELS = 4092  # an instruction adds them
_MOST_TAPS = 128  # whose differences of int8 and a zero point fit an int16 half
_UNROLLED_TAPS = 16

View = Callable[[Node, Graph], Mapping[str, Any]]


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    channels = node.x.shape[-1]
    return channels % _LANES == 0 and channels <= _MOST_CHANNELS


def _applies_to_mean(node: Node, graph: Graph) -> bool:
    few = int(np.prod(node.attrs.kernel)) <= _MOST_TAPS
    return few and _applies(node, graph) and _scale(node, graph) is not None


def _windows(node: Node) -> dict[str, Any]:
    """form: how a run of windows that are whole is computed, "taps", "lines" or none; whole_h,
    whole_w: [first, end) of their rows and columns; empty: whether a window has no tap."""
    attrs: PoolAttrs = node.attrs
    kernel_h, kernel_w = attrs.kernel
    spans, empty = list[tuple[int, int]](), False
    for size, inside in zip(attrs.kernel, taps_inside(node), strict=True):
        whole = np.flatnonzero(inside == size)
        spans.append((int(whole[0]), int(whole[-1]) + 1) if whole.size else (0, 0))
        empty |= not inside.all()
    reach = (kernel_w - 1) * attrs.dilations[1] * node.x.shape[3]
    form = "taps" if kernel_h * kernel_w <= _UNROLLED_TAPS else "lines"
    near = reach <= MAX_STORE_OFFSET and kernel_w <= _UNROLLED_TAPS
    whole_h, whole_w = spans
    return {
        "form": form if near else "",
        "whole_h": whole_h,
        "whole_w": whole_w,
        "empty": empty,
    }


def _max_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {**max_pool.view(node, graph), **_windows(node)}


def _average_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    scale = _scale(node, graph)
    assert scale is not None, "applies() promised"
    return {**average_pool.view(node, graph), **_windows(node), "n": scale.n}


def _scale(node: Node, graph: Graph) -> HalfScale | None:
    scales = zip(*(graph.constant(v).tolist() for v in node.inputs[1:]), strict=True)
    bound = 255 * int(np.prod(node.attrs.kernel))
    return half_scale(list(scales), bound, 0, node.y.zero_point)


def _average_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """scales: {m, begin, C} of whole windows, which have the largest divisor; with several
    divisors then {m, C} of each, and kinds[kernel + 1]: divisor → index."""
    scale = _scale(node, graph)
    assert scale is not None, "applies() promised"
    m, c = scale.factors[-1]
    begin = -node.x.zero_point * int(np.prod(node.attrs.kernel)) % 65536 * 0x10001
    words = np.array([m, begin, c], np.int64).astype(np.int32)  # begin is a pair of halves
    rest = np.array(scale.factors, np.int32)
    plain = average_pool.constants(node, graph)
    if "kinds" not in plain:
        return {"scales": Constant(words)}
    return {"scales": Constant(np.concatenate([words, rest.ravel()])), "kinds": plain["kinds"]}


def _instructions(tap: float, window: float) -> Callable[[Node, Graph], float]:
    """Per four channels. Windows at the border take twice as long a tap."""

    def instructions(node: Node, graph: Graph) -> float:
        del graph
        facts = _windows(node)
        (top, bottom), (left, right) = facts["whole_h"], facts["whole_w"]
        whole = (bottom - top) * (right - left) if facts["form"] else 0
        border = node.y.elements // node.y.shape[3] - whole
        groups, size = node.y.shape[3] / _LANES, int(np.prod(node.attrs.kernel))
        each = whole * (tap * size + window) + border * ((tap + 3) * size + window + 10)
        return groups * each + 60 * border + 30 * node.y.shape[1]

    return instructions


def _nothing(node: Node, graph: Graph) -> Mapping[str, Constant]:
    del node, graph
    return {}


KERNELS = tuple(
    Kernel(
        name=f"{op}_dsp",
        op=op,
        template=f"targets/arm-dsp/kernels/{op}.c.j2",
        features=FEATURES,
        applies=applies,
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=instructions,
    )
    for op, applies, view, constants, instructions in (
        ("average_pool", _applies_to_mean, _average_view, _average_constants, _instructions(3, 17)),
        ("max_pool", _applies, _max_view, _nothing, _instructions(3, 4)),
    )
)
