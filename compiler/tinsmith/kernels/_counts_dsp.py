"""How often the parts of the DSP extension's convolutions run; see `counts.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from .dsp._winograd import Patches, tiling
from .dsp.conv2d_winograd_rows import row_tiling
from .geometry import Geometry

Counts: TypeAlias = dict[str, float]
View: TypeAlias = Mapping[str, Any]


def inner_pixels(g: Geometry) -> int:
    """Pixels whose window crosses no border."""
    (top, bottom), (left, right) = g.inner_rows, g.inner_columns
    return (bottom - top) * (right - left)


def _pairs(g: Geometry, v: View) -> Counts:
    """conv2d_pairs: blocks of two pixels × two channels, for each part of the channels."""
    parts = -(-v["channel_pairs"] // v["part_pairs"])
    pairs = -(-g.pixels // 2)
    blocks, lines = pairs * v["channel_pairs"], g.kernel_h if v["feed"] == "rows" else 1
    feed, long = v["feed"], v["run"] > 48
    packed = parts * g.pixels * g.kernel_h if feed == "packed" else 0
    return {
        "blocks": blocks,
        "block_quads": blocks * v["quads"],
        "block_rounds": blocks * v["rounds"] if v["rounds"] > 1 else 0,
        f"gathers {feed}": parts * pairs,
        f"widen_calls {v['aligned']}": parts * pairs * lines,
        f"widened {v['aligned']}": parts * pairs * lines * v["widened"],
        "packed_lines": packed,
        f"packed_words {long}": packed * (v["run"] if v["run"] < 4 else -(-v["run"] // 4)),
        f"border {feed}": parts * (g.pixels - inner_pixels(g)) * g.kernel_h,
        f"border_bytes {feed}": parts * (g.pixels - inner_pixels(g)) * g.kernel_h * v["run"],
        "expanded": 2 * v["channel_pairs"] * v["quads"] if v["parts"] else 0,
        "expanded_pairs": v["channel_pairs"] if v["parts"] else 0,
        "stored": parts * (2 - 1 * v["direct_store"]) * (g.pixels if v["rows_bytes"] else 0),
        "stored_bytes": 0 if v["direct_store"] else parts * g.pixels * g.out_c,
    }


def _gemm(g: Geometry, v: View) -> Counts:
    """conv2d_gemm for the DSP extension: blocks of four pixels × two channels."""
    blocks = -(-g.pixels // 4) * -(-g.out_c // 2)
    gathered = 0 if v["direct_rows"] else g.pixels
    return {
        f"blocks {v['radix']}": blocks,
        f"block_steps {v['radix']}": blocks * v["k_pairs"],
        "block_rounds": blocks * v["rounds"] if v["rounds"] > 1 else 0,
        "fours": -(-g.pixels // 4),
        "gathered": gathered,
        "gathered_lines": gathered * g.kernel_h,
        "gathered_bytes": gathered * v["k"],
        "stored": 0 if v["direct_store"] else g.pixels,
        "stored_bytes": 0 if v["direct_store"] else g.pixels * g.out_c,
    }


def _lines(g: Geometry, v: View) -> Counts:
    """conv2d_lines: every input line widened once."""
    blocks = g.out_h * -(-g.out_w // 2) * -(-g.out_c // 2)
    fresh = g.out_h * min(g.kernel_h, g.stride_h)
    loaded = sum(step[1].count("r") for step in v["steps"] if step[0] != "sum")
    return {
        f"blocks {g.kernel_h}": blocks,
        "block_words": blocks * g.kernel_h * loaded,
        "block_lines": blocks * g.kernel_h,
        f"last_pixels {g.out_w % 2}": g.out_h * (g.out_w % 2),
        "last_bytes": g.out_h * (g.out_w % 2) * g.out_c,
        "block_steps": blocks * g.kernel_h * len(v["steps"]),
        "pairs": g.out_h * -(-g.out_w // 2),
        f"line_bytes {g.stride_w}": fresh * g.in_w * g.in_c,
        f"fresh_lines {g.stride_w}": fresh,
        "kept_bytes": g.out_h * (g.kernel_h - min(g.kernel_h, g.stride_h)) * g.in_w * g.in_c,
        "kept_lines": g.out_h * (g.kernel_h - min(g.kernel_h, g.stride_h)),
    }


def _patches(g: Geometry, found: Patches) -> Counts:
    return {
        "patches": found.tiles,
        "patch_bytes": found.tiles * g.in_c,
        "patch_rows": found.rows,
        "patch_copied": found.pixels * g.in_c,
    }


def _winograd(g: Geometry, v: View) -> Counts:
    """conv2d_winograd: blocks of tiles × channels, and tiles × four inputs."""
    tiles, channels = v["blocks"] * v["block"], g.out_c / v["block_channels"]
    groups = -(-v["blocks"] // v["group"]) * channels
    bounds = (v["q_min"] > -128) + (v["q_max"] < 127)
    products = v["blocks"] * channels
    bounded = (g.out_h % v["size"] > 0) + (g.out_w % v["size"] > 0) + v["tiles"] % v["block"]
    return {
        "tiles": tiles,
        "inputs": tiles * v["quads"],
        "outputs": tiles * g.out_c,
        "clamped_outputs": tiles * g.out_c * bounds,
        "blocks": products,
        "products": products * v["quads"],
        "odd_products": products * (v["quads"] % 2),
        "product_rows": products / v["unroll"],
        "divided": 0 if v["stored"] or v["tiles_w"] in (1, 2, 4, 8, 16) else products,
        "bounded": 0 if v["stored"] else products * bounded,
        "weights": 0 if v["stored"] else groups,
        "weight_quads": 0 if v["stored"] else groups * v["quads"],
        "channel_groups": groups,
        **_patches(g, tiling(g, v["size"]).patches(g, tiles)),
    }


def _winograd_rows(g: Geometry, v: View) -> Counts:
    """conv2d_winograd_rows: F(4, 3) along rows alone."""
    products = g.out_h * v["pairs_w"] * g.out_c / 2
    inputs = (g.out_h + 2) * v["pairs_w"]
    return {
        "tiles": inputs,
        "inputs": inputs * v["quads"],
        f"outputs {v['raised']}": products,
        "products": products * v["quads"],
        "product_rows": products / v["unroll"],
        "weights": g.out_h * g.out_c / 2,
        "weight_quads": g.out_h * g.out_c / 2 * v["quads"],
        **_patches(g, row_tiling(g).patches(g)),
    }


def _planes(g: Geometry, v: View) -> Counts:
    """depthwise_planes: four channels at a time, a band of rows at a time."""
    steps = v["rounds"] * v["body"] + v["rest"]
    form = f"{g.kernel_w}/{g.stride_w}"
    rows, groups = g.in_c * g.out_h, g.in_c / 4
    taken = g.in_w - g.pad_left % 2
    return {
        f"steps {form}": rows * steps,
        f"loops {form}": rows * (v["rounds"] if v["rounds"] > 1 else 0),
        f"plane_rows {form}": rows,
        f"last {form} {v['last']}": rows if v["last"] else 0,
        "planes": g.in_c * v["bands"],
        "kept_words": g.in_c * (v["bands"] - 1) * v["kept_rows"] * v["row_bytes"] / 4,
        "kept": g.in_c * (v["bands"] - 1) * (v["kept_rows"] > 0),
        "fills": groups * v["bands"] * (v["bands"] > 1),
        "border_words": groups * (g.kernel_h - 1) * v["row_bytes"] * (v["bands"] > 1),
        "plane_words": v["plane_bytes"],
        "groups": groups,
        "widened": groups * g.in_h * (taken // 4),
        "widened_rest": groups * g.in_h * (taken % 4 // 2 + taken % 2 + g.pad_left % 2),
        "widened_rows": groups * g.in_h,
    }


def depthwise(g: Geometry, v: View) -> Counts:
    """depthwise: pixel by pixel, those of the border through a patch."""
    lanes = 8 if "groups" in v else 4
    groups, taps, inner = -(-g.in_c // lanes), g.kernel_h * g.kernel_w, inner_pixels(g)
    border = g.pixels - inner
    runs = g.inner_rows[1] - g.inner_rows[0] if inner else 0
    return {
        "inner": inner * groups,
        "inner_taps": inner * groups * taps,
        "inner_runs": runs,
        "inner_run_groups": runs * groups,
        "edge": border * groups,
        "edge_taps": border * groups * taps,
        "edge_lines": border * g.kernel_h,
        "edge_bytes": border * taps * g.in_c,
    }


TEMPLATES: Mapping[str, Callable[[Geometry, View], Counts]] = {
    "conv2d_pairs.c.j2": _pairs,
    "conv2d_gemm.c.j2": _gemm,
    "conv2d_lines.c.j2": _lines,
    "conv2d_winograd.c.j2": _winograd,
    "conv2d_winograd_rows.c.j2": _winograd_rows,
    "depthwise_planes.c.j2": _planes,
    "depthwise.c.j2": depthwise,
}
