"""How often the parts of the portable kernels run; see `counts`.

What the compiler makes of an inner loop depends on how far it is written out and how many sums it
keeps, so these are in the counts' names; a name with a space in it is of a form that must have
been measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import Geometry, conv_geometry
from ..kernel import Kernel
from ._types import Counts, View, clamps


def counts(kernel: Kernel, node: Node, graph: Graph) -> Counts | None:
    """Of a kernel whose template is among these; None of others."""
    own = _TEMPLATES.get(kernel.template)
    if own is None or kernel.dtype.value != "int8":
        return None
    view = kernel.view(node, graph)
    found = own(node, view)
    if "excess_at" in (constants := kernel.constants(node, graph)):
        found["entries"] = float(constants["excess_at"].array.size)
    found[f"outputs exact={view.get('exact', False)}"] = float(node.y.elements)
    return found | {"clamped": float(node.y.elements * clamps(node))}


def _tiles(times: float, rows: int, width: int, depth: int, filters: int) -> Counts:
    """Of `_tile.channels`: blocks, and the turns of their loops."""
    turns = 4 if rows == 2 and depth >= 16 else 8 if depth >= 128 and depth % 8 == 0 else 1
    return _blocks(times, width, depth, filters, turns, f"x{rows} by {turns}")


def _blocks(times: float, width: int, depth: int, filters: int, turn: int, form: str) -> Counts:
    """Blocks of `width` filters, and of those that are left over, whose code depends on how many
    they are: of them also what is in proportion to that number."""
    blocks, rest = times * (filters // width), times * (filters % width > 0)
    more = filters % width
    return {
        f"blocks {form}": blocks,
        f"turns {form}": blocks * (depth // turn),
        f"left {form}": blocks * (depth % turn),
        "rest": rest,
        "rest_filters": rest * more,
        f"rest_turns {form}": rest * (depth // turn),
        f"rest_products {form}": rest * (depth // turn) * more,
        f"rest_left {form}": rest * (depth % turn),
        f"rest_left_products {form}": rest * (depth % turn) * more,
    }


def _dense(node: Node, v: View) -> Counts:
    rows, depth, outputs = v["rows"], v["depth"], v["outputs"]
    if rows == 1:
        return _tiles(1, 1, 8, depth, outputs)
    return {"pairs": -(-rows // 2)} | _tiles(-(-rows // 2), 2, 4, depth, outputs)


def _dense_halves(node: Node, v: View) -> Counts:
    depth, run = v["depth"], v["run"]
    blocks = -(-v["outputs"] // v["channels"])
    loops = "" if depth > run else " once"
    return {
        "inputs": depth,
        "runs": depth // run,
        f"blocks_excess{v['excess']}": blocks,
        f"block_runs {run}": blocks * (depth // run),
        f"block_runs_excess{v['excess']}{loops}": blocks * (depth // run),
        "block_rests": blocks * (depth % run > 0),
        "block_rest_inputs": blocks * (depth % run),
    }


def _gemm(node: Node, v: View) -> Counts:
    """Of grouped layers everything by itself: their windows are gathered otherwise."""
    found = _matrix(node, v)
    return found if v["groups"] == 1 else {f"{name} grouped": n for name, n in found.items()}


def _matrix(node: Node, v: View) -> Counts:
    g = conv_geometry(node)
    rows = 2 if v["pixels"] > 1 else 1
    pairs, groups = -(-v["pixels"] // rows), v["groups"]
    found: Counts = {"pairs": pairs, "groups": pairs * groups}
    found |= _tiles(pairs * groups, rows, 4, v["depth"], v["out_per_group"])
    aligned = v["in_per_group"] % 4 == 0 and g.in_c % 4 == 0
    if v["pointwise"]:
        return found | _copied("copy", pairs, rows * g.in_c, aligned)
    width = v["in_per_group"]
    inside, outside, whole = _lines(g, apart=groups > 1 or g.dilation_w > 1)
    taps = _taps(g)
    lines = float(rows * pairs) / g.pixels * groups
    partly = (inside - whole) * g.kernel_w
    return (
        found
        | _copied("line", lines * whole, g.kernel_w * g.in_c, aligned)
        | _copied("outside", lines * outside, g.kernel_w * width, aligned)
        | _copied("tap", lines * (taps - whole * g.kernel_w), width, aligned)
        | _copied("no_tap", lines * (partly - taps + whole * g.kernel_w), width, aligned)
    )


def _copied(name: str, times: float, count: int, aligned: bool) -> Counts:
    """Copies or fills of so many bytes, by how `ts_copy_s8` takes them."""
    words = count if aligned else 0
    form = "" if aligned else "_odd"
    return {
        name: times,
        f"{name}_16{form}": times * (count // 16),
        f"{name}_4{form}": times * (count % 16 // 4),
        f"{name}_1{form}": times * (count - words // 4 * 4),
    }


def _starts(g: Geometry) -> tuple[Array, Array]:
    """First row and column of every pixel's window."""
    tops = np.repeat(np.arange(g.out_h) * g.stride_h - g.pad_top, g.out_w)
    lefts = np.tile(np.arange(g.out_w) * g.stride_w - g.pad_left, g.out_h)
    return tops, lefts


def _rows_inside(g: Geometry) -> Array:
    """[pixels, kernel_h]: whether that row of the window is one of the input."""
    rows: Array = _starts(g)[0][:, None] + g.dilation_h * np.arange(g.kernel_h)
    return (rows >= 0) & (rows < g.in_h)


def _columns_inside(g: Geometry) -> Array:
    columns: Array = _starts(g)[1][:, None] + g.dilation_w * np.arange(g.kernel_w)
    return (columns >= 0) & (columns < g.in_w)


def _lines(g: Geometry, *, apart: bool) -> tuple[int, int, int]:
    """Lines of all windows: in rows of the input, outside, and wholly inside if copied as one."""
    rows = _rows_inside(g)
    whole = rows & _columns_inside(g).all(1, keepdims=True)
    return int(rows.sum()), int((~rows).sum()), 0 if apart else int(whole.sum())


def _taps(g: Geometry) -> int:
    return int((_rows_inside(g).sum(1) * _columns_inside(g).sum(1)).sum())


def _halves(node: Node, v: View) -> Counts:
    g = conv_geometry(node)
    pairs, turn = -(-v["pixels"] // 2), v["run"] * v["turns"]
    found: Counts = {"pairs": pairs}
    found |= _blocks(pairs, v["channels"], v["depth"], g.out_c, turn, f"by {turn}")
    if v["pointwise"]:
        return found | _joined("line", pairs, g.in_c)
    whole: Array = _rows_inside(g) & _columns_inside(g).all(1, keepdims=True) & (g.dilation_w == 1)
    second = np.minimum(np.arange(0, 2 * pairs, 2) + 1, g.pixels - 1)
    both = int((whole[0::2] & whole[second]).sum())
    return (
        found
        | _joined("line", both, g.kernel_w * g.in_c)
        | _joined("taps", (pairs * g.kernel_h - both) * g.kernel_w, g.in_c)
    )


def _joined(name: str, times: float, count: int) -> Counts:
    return {
        name: times,
        f"{name}_4": times * (count // 4),
        f"{name}_1": times * (count % 4),
        f"{name}_any": times * (count % 4 > 0),
    }


def _depthwise(node: Node, v: View) -> Counts:
    g = conv_geometry(node)
    blocks = g.out_h * -(-g.out_w // v["count"])
    taps = blocks * g.out_c * g.kernel_h
    rows = (
        np.arange(g.out_h)[:, None] * g.stride_h - g.pad_top + g.dilation_h * np.arange(g.kernel_h)
    )
    inside = int(((rows >= 0) & (rows < g.in_h)).sum())
    line, left, copied = v["line_elements"], v["left_elements"], v["copied_elements"]
    right = line - left - copied
    aligned = g.in_c % 4 == 0
    form = f"{'out' if v['unrolled'] else 'loop'}{v['count']}"
    same = f"{g.kernel_h}x{g.kernel_w}s{g.stride_w}_{form}"
    return (
        {
            "rows": g.out_h,
            "blocks": blocks,
            f"channels_{form}": blocks * g.out_c,
            f"channels_{same}": blocks * g.out_c,
            f"lines_{form}": taps,
            f"values_{form}": taps * len(v["columns"]),
            f"weights_{form}": taps * g.kernel_w,
            f"products_{form}": taps * g.kernel_w * v["count"],
        }
        | _copied("line", inside, copied, aligned)
        | _copied("outside", g.out_h * g.kernel_h - inside, line, aligned)
        | _copied("left", inside * (left > 0), left, aligned)
        | _copied("right", inside * (right > 0), right, aligned)
    )


_TEMPLATES: Mapping[str, Callable[[Node, Any], Counts]] = {
    "ops/dense_blocked.c.j2": _dense,
    "ops/dense_halves.c.j2": _dense_halves,
    "ops/conv2d_gemm.c.j2": _gemm,
    "ops/conv2d_halves.c.j2": _halves,
    "ops/conv2d_depthwise.c.j2": _depthwise,
}
