"""How often the parts of the convolutions on Helium run; see `counts.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ._counts_dsp import Counts, View, depthwise, inner_pixels
from .geometry import Geometry


def _block(v: View) -> str:
    """The form of the block of two pixels × four channels."""
    held = v["uniform"] and v["chunks"] + (v["tail"] > 0) == 1
    return f"{v['uniform']} {held}"


def _gemm(g: Geometry, v: View) -> Counts:
    """conv2d_gemm on Helium."""
    blocks = -(-g.pixels // 2) * -(-g.out_c // 4)
    gathered = 0 if v["direct"] else g.pixels
    return {
        f"blocks {_block(v)}": blocks,
        "block_chunks": blocks * v["chunks"],
        "block_rounds": blocks * (v["chunks"] // max(v["unroll"], 1)),
        "block_tails": blocks * bool(v["tail"]),
        "pairs": -(-g.pixels // 2),
        "gathered": gathered,
        "gathered_lines": gathered * g.kernel_h,
        "gathered_chunks": gathered * g.kernel_h * -(-g.kernel_w * g.in_c // 16),
        "gathered_words": gathered * g.kernel_h * (g.kernel_w * g.in_c // 4),
        "gathered_border": 0 if v["direct"] else (g.pixels - inner_pixels(g)) * g.kernel_h,
        "stored": 0 if v["padded_c"] == g.out_c else g.pixels,
        "stored_bytes": 0 if v["padded_c"] == g.out_c else g.pixels * g.out_c,
    }


def _strips(g: Geometry, v: View) -> Counts:
    """conv2d_strips: a column of outputs after the other, in bands of rows."""
    bands = -(-g.out_h // v["band"])
    pairs = g.out_w * (g.out_h // 2 + bands * (v["band"] % 2))
    lines = g.out_w * (g.out_h * g.stride_h + bands * g.kernel_h)
    return {
        f"blocks {_block(v)}": pairs * -(-g.out_c // 4),
        "block_chunks": pairs * -(-g.out_c // 4) * v["chunks"],
        "pairs": pairs,
        "strips": g.out_w * bands,
        "strip_bytes": g.out_w * bands * v["strip_bytes"],
        "strip_lines": lines,
        "strip_line_bytes": lines * v["line"],
    }


def _planes(g: Geometry, v: View) -> Counts:
    """depthwise_planes on Helium: eight channels in strips, along the axis that suits."""
    of: Geometry = v["g"]
    bands, groups = -(-v["strips"] // v["band"]), -(-g.in_c // 8)
    blocks = v["strips"] * -(-of.out_w // v["columns"])
    masked = of.out_w < v["columns"] or (v["lines"] == 4 and of.out_h % 2 > 0)
    form = f"{v['lines']} {masked} {v['uniform']}"
    return {
        f"blocks {form}": g.in_c * blocks,
        f"strips {form}": g.in_c * v["strips"],
        f"rests {v['lines']}": g.in_c * v["strips"] * bool(v["rest"]),
        "planes": g.in_c * bands,
        f"put {v['lines']}": groups * of.in_h * v["taken"],
        f"put_lines {v['lines']}": groups * of.in_h,
        f"kept {v['keeps']}": groups * (bands - 1),
        f"kept_bytes {v['keeps']}": groups
        * (bands - 1)
        * (v["strip_bytes"] if v["keeps"] else of.in_w),
        "plane_bytes": v["plane_bytes"],
        "groups": groups,
    }


def _flat(g: Geometry, v: View) -> Counts:
    """depthwise_flat: a plane of eight channels whole."""
    groups = -(-g.in_c // 8)
    turns, rests = v["turn_loads"], v["rest_loads"]
    return {
        f"blocks {v['uniform']}": g.in_c * (v["whole"] * len(turns) + len(rests)),
        "loads": g.in_c * (v["whole"] * sum(map(len, turns)) + sum(map(len, rests))),
        "turns": g.in_c * v["whole"],
        "channels_of_planes": g.in_c,
        "put": groups * v["taken_h"] * g.in_w,
        "put_lines": groups * v["taken_h"],
        "groups": groups,
        "plane_bytes": v["plane_bytes"],
    }


def _columns(g: Geometry, v: View) -> Counts:
    """conv2d_columns: blocks of four pixels of a row × four channels."""
    blocks = g.out_h * -(-g.out_w // 4) * g.out_c / 4
    return {
        f"blocks {v['uniform']}": blocks,
        f"block_lines {v['unrolled']}": blocks * g.kernel_h,
        f"block_chunks {g.stride_w}": blocks * g.kernel_h * v["chunks"],
        "fours": g.out_h * -(-g.out_w // 4),
        "copied_lines": g.out_h * g.kernel_h,
        "copied_chunks": g.out_h * g.kernel_h * v["line_bytes"] / 16,
    }


TEMPLATES: Mapping[str, Callable[[Geometry, View], Counts]] = {
    "depthwise.c.j2": depthwise,
    "conv2d_gemm.c.j2": _gemm,
    "conv2d_columns.c.j2": _columns,
    "conv2d_strips.c.j2": _strips,
    "depthwise_planes.c.j2": _planes,
    "depthwise_flat.c.j2": _flat,
}
