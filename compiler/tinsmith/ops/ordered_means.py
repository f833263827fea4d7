"""reduce_mean and average_pool of a float32 network that learns: every sum in float32, in the
row-major order of its terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node
from ..ir.opdef import Absent
from . import _gradient_rules, average_pool, reduce_mean
from ._clamp import apply_clamp
from ._pool import window_count
from ._window import patches

_MADE_HERE = Absent("select_float_updates makes it")
_CASES = Absent("its cases are few: tests/training_cases.py has them")


def mean(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32."""
    attrs: reduce_mean.ReduceMeanAttrs = node.attrs
    (x,) = arrays
    kept = [a for a in range(x.ndim) if a not in attrs.axes]
    terms = x.transpose(*attrs.axes, *kept).reshape(-1, node.y.elements)
    total = np.zeros(node.y.elements, x.dtype)
    for row in terms:
        total += row
    y = total / np.float32(len(terms))
    return (apply_clamp(y, attrs.clamp).reshape(node.y.shape),)


def pooled(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32."""
    attrs: average_pool.AveragePoolAttrs = node.attrs
    windows = patches(arrays[0], attrs.kernel, window_count(node.x, attrs), attrs, 0)
    total = np.zeros(node.y.shape, windows.dtype)
    for i, j in np.ndindex(*attrs.kernel):
        total += windows[:, :, :, i, j]
    divisors = average_pool.window_divisors(node.x, attrs)[None, :, :, None]
    return (apply_clamp(total / divisors.astype(np.float32), attrs.clamp),)


OPS = tuple(
    replace(
        record,
        name=f"ordered_{record.name}",
        reference=reference,
        integer=Absent("it is float32"),
        onnx_import=_MADE_HERE,
        onnx_export=_MADE_HERE,
        cases=_CASES,
        gradient=rule,
    )
    for record, reference, rule in (
        (reduce_mean.OP, mean, _gradient_rules.mean),
        (average_pool.OP, pooled, _gradient_rules.average_pool),
    )
)
