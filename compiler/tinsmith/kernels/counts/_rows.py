"""How often the parts of the DSP extension's dense kernels and sums run; see `counts`."""

from __future__ import annotations

from ...ir.graph import Node
from ._types import Counts, View


def rows(node: Node, v: View) -> Counts:
    """Blocks of a row × four channels; each row is widened, and copied where channels are left."""
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    count = node.x.elements // k
    blocks, quads = count * -(-out_c // 4), -(-k // 4)
    clamps = (v["q_min"] > -128) + (v["q_max"] < 127)
    left = count * (out_c % 4 > 0)
    found: Counts = {
        "rows": count,
        "widened": count * (k // 4 % 2),
        "widened_pairs": count * (k // 8),
        "rest": count * (k % 4 > 0),
        "rest_bytes": count * (k % 4),
        "zeros": count * (v["padded"] - k >= 4),
        "clamps": 4 * blocks * clamps,
        "copied": left,
        "copied_16": left * (out_c // 16),
        "copied_4": left * (out_c % 16 // 4),
        "copied_1": left * (out_c % 4),
    }
    if "radix" not in v:  # pairs of int16
        rounds = v["rounds"] if v["rounds"] > 1 else 0
        return found | {
            "blocks": blocks,
            "eights": blocks * -(-k // 8),
            "rounds": blocks * rounds,
        }
    loops = v.get("loops", v["unroll"] < quads)
    form = f" radix={v['radix']}"
    return found | {
        "scaled_up": blocks * (v["scale_up"] > 0),
        "blocks" + form: blocks,
        "quads" + form: blocks * quads,
        "rounds": blocks * (quads // v["unroll"]) if loops else 0,
    }


def add(node: Node, v: View) -> Counts:
    """add and sub: eight elements a turn."""
    elements = node.y.elements
    bounds = (v["q_min"] > -128) + (v["q_max"] < 127)
    eights = elements // 8
    return {
        "eights": eights,
        "rounds": (eights - v["rest"]) / v["body"] if v["loops"] else 0,
        "left": elements % 8,
        "any_left": elements % 8 > 0,
        "bound": eights * 8 * bounds,
    }
