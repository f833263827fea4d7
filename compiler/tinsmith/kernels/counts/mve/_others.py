"""dense, and what is no sum of products."""

from __future__ import annotations

from ....ir.graph import Node
from .._types import Counts, View, bounds
from ._sizes import copied, filled, merged


def dense(node: Node, v: View) -> Counts:
    """Rows, blocks of eight channels, sixteens of inputs; a row is copied first."""
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    rows, chunks = node.x.elements // k, -(-k // 16)
    eights = rows * -(-out_c // 8)
    row: Counts = {"c.turns": rows * chunks} if v["whole_row"] else copied("c", rows, k)
    return merged(
        {
            "block.calls": rows,
            "block.eights": 0 if v["one_scale"] else eights,
            "block.one_scale_eights": eights if v["one_scale"] else 0,
            "block.chunks": eights * chunks,
            "block.rounds": eights * chunks // v["unroll"] if v["loops"] else 0,
            "block.vectors": eights * 2 * (bounds(v) + (v["scale_up"] > 0)),
            "c.calls": 1,
            "c.looped_rows": rows if rows > 1 else 0,
            "c.rests": rows if out_c % 8 else 0,
        },
        row,
        copied("c", rows, out_c) if out_c % 8 else {},
        filled("c", 1, -k % 16) if k % 16 else {},
    )


def add(node: Node, v: View) -> Counts:
    """add and sub: four elements a turn."""
    turns = -(-node.y.elements // 4)
    return {"call": 1, "turns": turns, "vectors": turns * bounds(v)}


def permute_channels(node: Node, v: View) -> Counts:
    """16 channels of a pixel at a time."""
    del node
    return {
        "call": 1,
        "pixels": v["pixels"],
        "gathers": v["pixels"] * (v["channels"] // 16),
        "rests": v["pixels"] * (v["channels"] % 16 > 0),
    }
