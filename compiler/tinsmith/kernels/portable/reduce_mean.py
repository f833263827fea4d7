"""Portable mean over any axes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ops.reduce_mean import reduced_elements
from ..geometry import clamp_facts
from ..kernel import Constant, Kernel
from ._movement import strides_of

_INT16_PIXELS = 256  # whose sum of int8 fits int16


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """outer, inner: (size, stride) of the kept and of the reduced axes, neighbours joined."""
    del graph
    shape = node.x.shape
    axes = [
        (axis in node.attrs.axes, size, stride)
        for axis, (size, stride) in enumerate(zip(shape, strides_of(shape), strict=True))
        if size > 1
    ]
    outer: list[tuple[int, int]] = []
    inner: list[tuple[int, int]] = []
    for is_reduced, group in groupby(axes, key=lambda a: a[0]):
        joined, step = 1, 1
        for _, size, stride in group:
            joined, step = joined * size, stride
        (inner if is_reduced else outer).append((joined, step))
    return {
        "outer": tuple(outer),
        "inner": tuple(inner) or ((1, 1),),
        "reduced": reduced_elements(node),
        **clamp_facts(node),
    }


def fits_lanes(node: Node, graph: Graph, lanes: int, most: int = _INT16_PIXELS) -> bool:
    """Whether it is the mean over the pixels of each channel, of groups of `lanes` channels, and
    over so few pixels that the sums fit int16, or over `most`."""
    found = view(node, graph)
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels
    whole = found["outer"] == ((channels, 1),) and found["inner"] == ((pixels, channels),)
    return whole and channels % lanes == 0 and pixels <= most


def lanes_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """Of a kernel that sums groups of channels."""
    del graph
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels
    return {"channels": channels, "pixels": pixels, **clamp_facts(node)}


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """multiplier[1], shift[1]."""
    names = ("multiplier", "shift")
    return {n: Constant(graph.constant(v)) for n, v in zip(names, node.inputs[1:], strict=True)}


def lead_bytes(node: Node, index: int) -> int | None:
    """In place is safe: output k is written after its own reads, and later outputs read above k.

    The lowest element that output k reads is the k-th kept position with all reduced indices 0; its
    strides are those of the whole input, so it lies at k or above and grows with k.
    """
    del node
    return 0 if index == 0 else None


def instructions(node: Node, graph: Graph) -> float:
    """A load and an addition per element, and the loops; the end of each output."""
    del graph
    return 2.6 * node.x.elements + 25.0 * node.y.elements


KERNELS = (
    Kernel(
        name="reduce_mean_s8",
        op="reduce_mean",
        template="ops/reduce_mean.c.j2",
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=instructions,
    ),
    Kernel(
        name="reduce_mean_f32",
        op="reduce_mean",
        template="ops/reduce_mean.f32.c.j2",
        dtype=DType.FLOAT32,
        view=view,
        lead_bytes=lead_bytes,
        instructions=instructions,
    ),
)
