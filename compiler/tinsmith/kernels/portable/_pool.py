"""What the portable pooling kernels share: the view of a window over NHWC, and its safe overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ...ops._pool import PoolAttrs, taps
from ..geometry import clamp_facts

_UNROLLED_TAPS = 16


def pool_view(node: Node) -> dict[str, Any]:
    """Shapes and bounds; see `ops/_pool.c.j2`."""
    attrs: PoolAttrs = node.attrs
    batch, in_h, in_w, in_c = node.x.shape
    _, out_h, out_w, _ = node.y.shape
    clips = [_leaves(node, axis) for axis in (0, 1)]
    kernel_h, kernel_w = attrs.kernel
    dilation_h, dilation_w = attrs.dilations
    offsets: tuple[int, ...] = ()
    rooms = (in_h - dilation_h * (kernel_h - 1), in_w - dilation_w * (kernel_w - 1))
    if kernel_h * kernel_w <= _UNROLLED_TAPS and min(rooms) > 0:
        offsets = tuple(
            (ky * dilation_h * in_w + kx * dilation_w) * in_c
            for ky in range(kernel_h)
            for kx in range(kernel_w)
        )
    facts: dict[str, Any] = {
        "c_type": node.x.dtype.c,
        "batch": batch,
        "in_h": in_h,
        "in_w": in_w,
        "in_c": in_c,
        "out_h": out_h,
        "out_w": out_w,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": attrs.strides[0],
        "stride_w": attrs.strides[1],
        "dilation_h": dilation_h,
        "dilation_w": dilation_w,
        "pad_top": attrs.pads[0],
        "pad_left": attrs.pads[1],
        "clip_h": clips[0],
        "clip_w": clips[1],
        "offsets": offsets,
        "inside": tuple((s, r) for s, r, c in zip(("y0", "x0"), rooms, clips, strict=True) if c),
        "counts": False,
        "lanes": 1,
    }
    return facts | clamp_facts(node)


def lead_bytes(node: Node, index: int) -> int | None:
    """Safe overlap of kernels that write pixel after pixel, channel after channel.

    Channel c of output pixel p is written at p·C + c once channel c of its window is read. What is
    read later lies at m·C + c + 1 or above, m being the lowest input pixel that p or a later output
    pixel reads. So the output must start (p − m)·C elements or more below the input, for every p.
    """
    if index != 0:
        return None
    attrs: PoolAttrs = node.attrs
    batch, in_h, in_w, channels = node.x.shape
    _, out_h, out_w, _ = node.y.shape
    rows = np.clip(taps(in_h, out_h, 0, attrs)[:, 0], 0, None)
    columns = np.clip(taps(in_w, out_w, 1, attrs)[:, 0], 0, None)
    lowest = (rows[:, None] * in_w + columns[None, :]).ravel()
    lowest = np.minimum.accumulate(lowest[::-1])[::-1]
    ahead = int((np.arange(out_h * out_w) - lowest).max())
    drift = (batch - 1) * max(0, out_h * out_w - in_h * in_w)
    return (max(0, ahead) + drift) * channels * node.x.dtype.bytes


def instructions(node: Node, graph: Graph) -> float:
    """About three instructions a tap, and the end of each output."""
    del graph
    return 3.0 * node.op.macs(node) + 15.0 * node.y.elements


def _leaves(node: Node, axis: int) -> bool:
    """Whether a window has taps outside the input along height (0) or width (1)."""
    size = node.x.shape[axis + 1]
    positions = taps(size, node.y.shape[axis + 1], axis, node.attrs)
    return bool(((positions < 0) | (positions >= size)).any())
