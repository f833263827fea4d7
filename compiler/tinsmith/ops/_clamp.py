"""Fused activations: a real `clamp` on operators that compute sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node
from ._onnx import ExportContext

INF = math.inf
Clamp = tuple[float, float]
UNBOUNDED: Clamp = (-INF, INF)


def apply_clamp(y: Array, clamp: Clamp) -> Array:
    """y between the bounds, in y's own type."""
    return y if clamp == UNBOUNDED else np.clip(y, *clamp).astype(y.dtype)


def export_clamped(node: Node, out: ExportContext, write: Callable[[str], None]) -> None:
    """Calls `write` with the name its result must get, then writes the clamp as Relu or Clip."""
    low, high = node.attrs.clamp
    result = out.name(node.outputs[0])
    if (low, high) == UNBOUNDED:
        write(result)
        return
    sums = out.temporary("unclamped")
    write(sums)
    if (low, high) == (0.0, INF):
        out.node("Relu", [sums], [result])
        return
    bounds = [
        "" if math.isinf(bound) else out.constant(hint, np.array(bound, np.float32))
        for hint, bound in (("min", low), ("max", high))
    ]
    out.node("Clip", [sums, *bounds], [result])
