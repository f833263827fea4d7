"""add and sub of two activations of one shape, eight elements per turn.

Factors and size are data, so that sums of any size share the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel
from ..portable._elementwise import in_place, is_plain
from ._loops import loop
from ._weights import FEATURES

_MAX_BODY = 2  # eights in the body of the loop: 0.4 kB of code


def _applies(node: Node, graph: Graph) -> bool:
    return is_plain(node, graph) and node.y.elements >= 8


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    attrs, elements = node.attrs, node.y.elements
    form = loop(elements // 8, _MAX_BODY)
    return {
        "rest": form["rest"],
        "body": form["body"],
        "loops": form["rounds"] > 1,
        "elements": elements if elements % 8 else 0,
        "n": attrs.n,
        "q_min": attrs.q_clamp[0],
        "q_max": attrs.q_clamp[1],
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """{a, b, c}, and the bytes that the loop writes."""
    del graph
    attrs, form = node.attrs, loop(node.y.elements // 8, _MAX_BODY)
    looped = form["rounds"] * form["body"] * 8
    return {"factors": Constant(np.array([attrs.a, attrs.b, attrs.c, looped], np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    eights, rest = divmod(node.y.elements, 8)
    return 50 * eights + 3 * loop(eights, _MAX_BODY)["rounds"] + 10 * rest + 30


KERNELS = tuple(
    Kernel(
        name=f"{op}_dsp",
        op=op,
        template="targets/arm-dsp/kernels/add.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        lead_bytes=in_place,
        instructions=_instructions,
    )
    for op in ("add", "sub")
)
