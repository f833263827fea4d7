"""Average and max pooling: four channels at a time, in lanes of a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel
from ..portable import average_pool, max_pool
from ..portable._pool import lead_bytes
from ._weights import FEATURES

_LANES = 4
_TAPS = 256  # whose sum of int8 fits an int16 half

View = Callable[[Node, Graph], Mapping[str, Any]]


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    return node.x.shape[-1] % _LANES == 0 and int(np.prod(node.attrs.kernel)) <= _TAPS


def _in_lanes(view: View) -> View:
    return lambda node, graph: {**view(node, graph), "lanes": _LANES}


def _instructions(tap: float, output: float) -> Callable[[Node, Graph], float]:
    return lambda node, graph: tap * node.op.macs(node) + output * node.y.elements


def _nothing(node: Node, graph: Graph) -> Mapping[str, Constant]:
    del node, graph
    return {}


KERNELS = tuple(
    Kernel(
        name=f"{op}_dsp",
        op=op,
        template=f"targets/arm-dsp/kernels/{op}.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_in_lanes(view),
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=instructions,
    )
    for op, view, constants, instructions in (
        ("average_pool", average_pool.view, average_pool.constants, _instructions(1.3, 26.0)),
        ("max_pool", max_pool.view, _nothing, _instructions(1.0, 3.0)),
    )
)
