"""conv2d_winograd: blocks of tiles × channels; conv2d_winograd_rows: pairs of tiles along rows."""

from __future__ import annotations

import numpy as np

from ....ir.dtypes import Array
from ...dsp._winograd import tiling
from ...geometry import Geometry
from .._types import Counts, View, bounds, moved
from ._sizes import copies


def winograd(g: Geometry, v: View) -> Counts:
    tiles, quads, size = v["blocks"] * v["block"], v["quads"], v["size"]
    made = -(-v["blocks"] // v["group"]) * (g.out_c // v["block_channels"])
    products = v["blocks"] * (g.out_c // v["block_channels"])
    loads = quads if v["block"] == 2 else -(-quads // 2)
    ends = moved(8 * v["block"] - v["positions"] * v["stride"])
    ends += 6 * moved(6 * v["stride"]) if size == 4 else 0
    places = np.array([tiling(g, size).place(n) for n in range(tiles)])
    ragged = (g.out_h % size > 0) + (g.out_w % size > 0) + (v["tiles"] % v["block"] > 0)
    found = {
        **_products(products, v["positions"], quads, loads, v["unroll"]),
        "input.calls": tiles,
        "input.quads": tiles * quads,
        "input.moves": tiles * quads * ends,
        "output.calls": products * v["block"],
        "output.channels": tiles * g.out_c,
        "output.moves": tiles * g.out_c * _output_moves(g, v),
        "output.compared": tiles * g.out_c * size**2 * bounds(v),
        **_tiles(g, places, v["patch"], v["patch"]),
        "c.calls": 1,
        "c.tiles": tiles,
        "c.channels": made,
        "c.products": products,
    }
    if v["stored"]:
        return found
    back = moved(8 - v["positions"] * 16 * quads)
    return found | {
        "weights.calls": made,
        "weights.quads": made * quads,
        "weights.moves": made * 2 * quads * back,
        "c.divided": products * (v["tiles_w"] & (v["tiles_w"] - 1) > 0),
        "c.ragged": products * ragged,
    }


def winograd_rows(g: Geometry, v: View) -> Counts:
    quads, made = v["quads"], g.out_h * (g.out_c // 2)
    firsts = np.minimum(8 * np.arange(v["pairs_w"]), v["last_x"])
    xs = np.concatenate([firsts, firsts + v["step"]])
    places = np.stack(np.meshgrid(np.arange(g.out_h + 2), xs, indexing="ij"), -1).reshape(-1, 2)
    products = made * v["pairs_w"]
    return {
        **_products(products, 6, 3 * quads, 3 * quads, v["unroll"]),
        "input.calls": len(places),
        "input.quads": len(places) * quads,
        "output.calls": products,
        "output.compared": products * 2 * 8 * bounds(v),
        "weights.calls": made,
        "weights.quads": made * quads,
        **_tiles(g, places, 1, 6),
        "c.calls": 1,
        "c.rows": g.out_h + 2,
        "c.tiles": len(places),
        "c.channels": made,
        "c.products": products,
    }


def _products(calls: float, positions: int, quads: int, loads: int, unroll: int) -> Counts:
    """loads: of inputs, for each position."""
    return {
        "products.calls": calls,
        "products.positions": calls * positions,
        "products.quads": calls * positions * quads,
        "products.loads": calls * positions * loads,
        "products.turns": calls * positions / unroll,
    }


def _output_moves(g: Geometry, v: View) -> int:
    """Of a channel of a tile, where its rows or its products are far from each other."""
    row = g.out_w * g.out_c
    if v["size"] == 4:
        return moved(3 * row) + 3 * moved(row) if 3 * (row + g.out_c) > 4095 else 0
    far = 2 * moved(8 * v["stride"]) if 15 * v["stride"] > 4095 else 0
    return far + (moved(row + 4096) if row + g.out_c > 4095 else 0)


def _tiles(g: Geometry, places: Array, rows: int, columns: int) -> Counts:
    """Tiles of `rows` × `columns` inputs with these first outputs, [n, 2]; those whose inputs are
    not all there are patched."""
    top, left = places[:, 0] - g.pad_top, places[:, 1] - g.pad_left
    high = (np.minimum(top + rows, g.in_h) - np.maximum(top, 0)).clip(0)
    wide = (np.minimum(left + columns, g.in_w) - np.maximum(left, 0)).clip(0)
    partial = (high < rows) | (wide < columns)
    patches = float(partial.sum())
    copied = np.where(partial & (wide > 0), high, 0)
    return {
        "tile.calls": len(places),
        "tile.patches": patches,
        "patch.rows": patches * rows,
        **copies("patch.fill", rows * columns * g.in_c, patches),
        **copies("patch.copy", wide * g.in_c, copied),
    }
