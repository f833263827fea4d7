"""Gradients as int8, eight elements at a time, and clip masks, which are what a comparison leaves.

Vectors of floats flush subnormal numbers to 0. A tensor whose largest magnitude is 2^−64 or more
does not tell: with factors of at most 2^32, what is flushed is far below half a step of int8.
Smaller tensors are computed one element at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable.quantize_gradient import (
    first_in_place,
    mask_view,
    quantize_constants,
    quantize_view,
)
from ._weights import FEATURES

_LARGEST_FACTOR = 2.0**32


def _applies(node: Node, graph: Graph) -> bool:
    factor = graph.constant(node.inputs[1])
    return node.x.shape[-1] % 8 == 0 and bool((np.abs(factor) <= _LARGEST_FACTOR).all())


def _mask_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    facts = mask_view(node, graph)
    return {**facts, "none": facts["first"] > facts["last"]}


KERNELS = (
    Kernel(
        name="quantize_gradient_mve",
        op="quantize_gradient",
        template="targets/arm-mve/kernels/quantize_gradient.c.j2",
        features=FEATURES | {"fpu"},
        applies=_applies,
        view=quantize_view,
        constants=quantize_constants,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 6.5 * node.x.elements + 60,
    ),
    Kernel(
        name="clip_mask_mve",
        op="clip_mask",
        template="targets/arm-mve/kernels/clip_mask.c.j2",
        features=FEATURES,
        view=_mask_view,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 0.6 * node.x.elements + 20,
    ),
)
