"""Depthwise conv2d_trainable: four channels after the other, each over the whole image.

Their filters stay in natural rows, as the backward pass and the updates use them; they are widened
into scratch once per image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ..geometry import Geometry, conv_geometry
from ..kernel import Constant, Kernel
from ..learning import rescale_rows
from ._weights import FEATURES

MAX_PLANE = 4096  # bytes of scratch; above, too much memory for what it saves


def stream_bytes(taps: int) -> int:
    """Of the widened taps of four channels."""
    return 4 * (4 * (taps // 2) + 2 * (taps % 2))


def filter_of(node: Node, first: int) -> tuple[str, Value]:
    """The array that holds the filter, and its parameter's name; `first`: position of `frozen`."""
    frozen, trained = node.inputs[first : first + 2]
    return ("frozen", frozen) if frozen.type.elements else ("trained", trained)


def _plane(g: Geometry) -> tuple[int, int]:
    """Height and width in pixels, as far as windows reach."""
    return (
        (g.out_h - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h + 1,
        (g.out_w - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1,
    )


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    plane_h, plane_w = _plane(g)
    return (
        node.attrs.groups == g.in_c == g.out_c
        and g.in_c % 4 == 0
        and node.x.shape[0] == 1
        and g.kernel_h * g.kernel_w < 2**8
        and 4 * plane_h * plane_w <= MAX_PLANE
        and rescale_rows(node, graph) is not None
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    g = conv_geometry(node)
    plane_h, plane_w = _plane(g)
    taps = [(ky, kx) for ky in range(g.kernel_h) for kx in range(g.kernel_w)]
    return {
        **vars(g),
        "plane_h": plane_h,
        "plane_w": plane_w,
        "copied_h": min(g.in_h, plane_h - g.pad_top),
        "copied_w": min(g.in_w, plane_w - g.pad_left),
        "order": tuple(range(len(taps))),
        "offsets": [4 * (y * g.dilation_h * plane_w + x * g.dilation_w) for y, x in taps],
        "stream_bytes": stream_bytes(len(taps)),
        "filter": filter_of(node, 1)[0],
        "scale_up": 0,
        "x_zero_point": node.x.zero_point,
        "q_min": node.attrs.q_clamp[0],
        "q_max": node.attrs.q_clamp[1],
    }


def _filter_and_bias(node: Node) -> Mapping[str, Value]:
    name, value = filter_of(node, 1)
    return {name: value, "bias": node.inputs[3]}


def frozen(node: Node, graph: Graph) -> dict[str, Constant]:
    """Filter and bias, as far as they do not learn."""
    return {
        n: Constant(np.ravel(graph.constant(v)))
        for n, v in _filter_and_bias(node).items()
        if v not in graph.storage
    }


def state(node: Node, graph: Graph) -> Mapping[str, Value]:
    """Filter and bias, as far as they learn."""
    return {n: v for n, v in _filter_and_bias(node).items() if v in graph.storage}


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    rows = rescale_rows(node, graph)
    assert rows is not None, "applies() promised"
    return frozen(node, graph) | {"rows": Constant(np.ravel(rows))}


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    plane_h, plane_w = _plane(g)
    return stream_bytes(g.kernel_h * g.kernel_w) + 4 * plane_h * plane_w


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    taps = g.kernel_h * g.kernel_w
    per_quad = g.pixels * (7 * taps + 45) + 10 * taps + 4 * g.in_h * g.in_w
    return g.in_c / 4 * per_quad


KERNELS = (
    Kernel(
        name="depthwise_trainable_dsp",
        op="conv2d_trainable",
        template="targets/arm-dsp/kernels/depthwise_trainable.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        state=state,
        scratch_bytes=_scratch,
        instructions=_instructions,
    ),
)
