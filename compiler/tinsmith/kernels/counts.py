"""What a formula of a kernel's cost may be made of: how often the parts of its template run.

Of every kernel its own estimate and the plain sizes of the layer; of the templates that matter most
their blocks, loops, gathers and borders, from the view, which is all that the code depends on.
Forms of a template that are other code have counts of their own, with the form in the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..ir.graph import Graph, Node
from . import (
    _counts_loops,
    _counts_movement,
    _counts_pool,
    _counts_portable,
    _counts_rows,
    dsp_counts,
    mve_counts,
)
from ._counts_dsp import Counts, View, inner_pixels
from .geometry import Geometry, conv_geometry
from .kernel import UNKNOWN_INSTRUCTIONS, Kernel


def counts(kernel: Kernel, node: Node, graph: Graph) -> Counts:
    """By name. An estimate that is unknown counts 0."""
    estimate = kernel.instructions(node, graph)
    found = {"call": 1.0, "estimate": estimate if estimate < UNKNOWN_INSTRUCTIONS else 0.0}
    if kernel.template in _WHOLE:
        return found | _WHOLE[kernel.template](node, kernel.view(node, graph))
    if kernel.template in _BY_FUNCTION:
        of = _BY_FUNCTION[kernel.template]
        return found | of(conv_geometry(node), kernel.view(node, graph))
    portable = _counts_portable.counts(kernel, node, graph)
    if portable is not None:
        return found | portable
    found |= {
        "inputs": float(sum(v.type.elements for v in graph.activations(node))),
        "outputs": float(sum(v.type.elements for v in graph.results(node))),
        "macs": float(node.op.macs(node)),
        "clamped": float(node.y.elements if _clamps(node) else 0),
        "outer": float(node.y.elements // max(node.y.shape[-1], 1)),
    }
    if node.op.name == "conv2d":
        g = conv_geometry(node)
        found |= _convolution(g)
    elif kernel.template in _ROWS:
        found |= _rows(node, kernel.view(node, graph))
    elif "pool" in node.op.name:
        found |= _pool(node, kernel.view(node, graph))
    return found


def _clamps(node: Node) -> bool:
    return getattr(node.attrs, "q_clamp", (-128, 127)) != (-128, 127)


def _convolution(g: Geometry) -> Counts:
    inner = inner_pixels(g)
    return {
        "rows": float(g.out_h),
        "pixels": float(g.pixels),
        "lines": float(g.pixels * g.kernel_h),
        "windows": float(g.pixels * g.kernel_h * g.kernel_w * g.in_c),
        "channels": float(g.out_c),
        "channel_rows": float(g.out_c * g.out_h),
        "border": float(g.pixels - inner),
        "border_lines": float((g.pixels - inner) * g.kernel_h),
        "border_bytes": float((g.pixels - inner) * g.kernel_h * g.kernel_w * g.in_c),
    }


_DSP, _MVE = "targets/arm-dsp/kernels/", "targets/arm-mve/kernels/"
_BY_FUNCTION: Mapping[str, Callable[[Geometry, View], Counts]] = {
    _DSP + name: of for name, of in dsp_counts.TEMPLATES.items()
}
_LOOPS = {
    "add": _counts_loops.elementwise,
    "mul": _counts_loops.elementwise,
    "softmax": _counts_loops.softmax,
    "matmul": _counts_loops.matmul,
    "reduce_mean": _counts_loops.mean,
    "max_pool": _counts_loops.pool,
    "average_pool": _counts_loops.pool,
    "dense": _counts_loops.dense,
    "concat": _counts_movement.concat,
    "split": _counts_movement.split,
    "slice": _counts_movement.strided,
    "transpose": _counts_movement.strided,
    "pad": _counts_movement.pad,
    "resize": _counts_movement.resize,
    "lookup": _counts_movement.lookup,
}
_WHOLE: Mapping[str, Callable[[Node, View], Counts]] = {
    **{_MVE + name: of for name, of in mve_counts.TEMPLATES.items()},
    **{
        f"{_DSP}{name}.c.j2": _counts_rows.rows
        for name in ("dense", "dense_pairs", "dense_one_scale")
    },
    **{f"ops/{name}.c.j2": of for name, of in _LOOPS.items()},
    _DSP + "add.c.j2": _counts_rows.add,
    _DSP + "max_pool.c.j2": _counts_pool.pool,
    _DSP + "average_pool.c.j2": _counts_pool.pool,
    _DSP + "reduce_mean.c.j2": _counts_pool.mean,
}
_ROWS = {
    "ops/dense_blocked.c.j2",
    "ops/dense.c.j2",
}


def _rows(node: Node, v: View) -> Counts:
    """Dense layers: rows, blocks of four or eight channels."""
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    rows = node.x.elements // k
    form = " ".join(f"{key}={v[key]}" for key in ("radix", "one_scale", "loops") if key in v)
    found: Counts = {}
    for size in (2, 4, 8):
        blocks = rows * -(-out_c // size)
        found |= {
            f"blocks{size} {form}": blocks,
            f"block{size}_eights {form}": blocks * (k // 8),
            f"block{size}_rest {form}": blocks * (k % 8 > 0),
            f"block{size}_sixteens {form}": blocks * -(-k // 16),
        }
    return found


def _pool(node: Node, v: View) -> Counts:
    """Windows over channels: by lanes, and by whether the taps are written out."""
    form = " ".join(f"{key}={bool(v.get(key))}" for key in ("offsets", "by_divisor", "clip_h"))
    lanes = v.get("lanes", 1)
    groups = -(-node.y.shape[3] // lanes) * node.y.elements / node.y.shape[3]
    return {
        f"groups {form} {lanes}": groups,
        f"group_taps {form} {lanes}": node.op.macs(node) / lanes,
        "pixels": node.y.elements / node.y.shape[3],
    }
