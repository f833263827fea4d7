"""What a formula of a kernel's cost may be made of: how often the parts of its template run.

Of every kernel its own estimate and the plain sizes of the layer; of the templates that matter most
their blocks, loops, gathers and borders, from the view, which is all that the code depends on.
Forms of a template that are other code have counts of their own, with the form in the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...ir.graph import Graph, Node
from ..geometry import Geometry, conv_geometry
from ..kernel import UNKNOWN_INSTRUCTIONS, Kernel
from . import (
    _loops,
    _movement,
    _pool,
    _portable,
    _rows,
    dsp,
    mve,
)
from ._types import Counts, View, clamps, inner_pixels


def counts(kernel: Kernel, node: Node, graph: Graph) -> Counts:
    """By name. An estimate that is unknown counts 0."""
    estimate = kernel.instructions(node, graph)
    found = {"call": 1.0, "estimate": estimate if estimate < UNKNOWN_INSTRUCTIONS else 0.0}
    if kernel.template in _WHOLE:
        return found | _WHOLE[kernel.template](node, kernel.view(node, graph))
    if kernel.template in _BY_FUNCTION:
        of = _BY_FUNCTION[kernel.template]
        return found | of(conv_geometry(node), kernel.view(node, graph))
    portable = _portable.counts(kernel, node, graph)
    if portable is not None:
        return found | portable
    found |= {
        "inputs": float(sum(v.type.elements for v in graph.activations(node))),
        "outputs": float(sum(v.type.elements for v in graph.results(node))),
        "macs": float(node.op.macs(node)),
        "clamped": float(node.y.elements if clamps(node) else 0),
        "outer": float(node.y.elements // max(node.y.shape[-1], 1)),
    }
    if node.op.name == "conv2d":
        g = conv_geometry(node)
        found |= _convolution(g)
    return found


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
    _DSP + name: of for name, of in dsp.TEMPLATES.items()
}
_LOOPS = {
    "add": _loops.elementwise,
    "mul": _loops.elementwise,
    "softmax": _loops.softmax,
    "matmul": _loops.matmul,
    "reduce_mean": _loops.mean,
    "max_pool": _loops.pool,
    "average_pool": _loops.pool,
    "dense": _loops.dense,
    "concat": _movement.concat,
    "split": _movement.split,
    "slice": _movement.strided,
    "transpose": _movement.strided,
    "pad": _movement.pad,
    "resize": _movement.resize,
    "lookup": _movement.lookup,
}
_WHOLE: Mapping[str, Callable[[Node, View], Counts]] = {
    **{_MVE + name: of for name, of in mve.TEMPLATES.items()},
    **{f"{_DSP}{name}.c.j2": _rows.rows for name in ("dense", "dense_pairs", "dense_one_scale")},
    **{f"ops/{name}.c.j2": of for name, of in _LOOPS.items()},
    _DSP + "add.c.j2": _rows.add,
    _DSP + "max_pool.c.j2": _pool.pool,
    _DSP + "average_pool.c.j2": _pool.pool,
    _DSP + "reduce_mean.c.j2": _pool.mean,
}
