"""A matrix product with int8 operands, and what its kernels share.

C[m, n] = Σ_k A[m, k]·W[n, k] in int32, y[m, n] = requantise(C[m, n]). A is not a buffer: `element`
computes it from the node's input (im2col), straight into shared memory. W is packed at compile time
and zero where a tile reaches beyond the matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ..import_tvm import Schedule, tirx

WARP = 32
WANTED_BLOCKS = 128  # about the multiprocessors of a large GPU: smaller tiles below it
_MIN_COLUMNS, _MIN_DEPTH = 16, 16  # narrower products waste most of a fragment


@dataclass(frozen=True)
class Gemm:
    """A matrix product.

    Attributes:
        rows, columns, depth: the extents of m, n, k.
        elements: of the input buffer.
        element: (x, m, k) → A[m, k]; k < depth, but m may exceed rows by less than a tile.
        run: along k, aligned runs of so many elements are contiguous in x and not split by a
            border: 16, 4 or 1.
    """

    rows: int
    columns: int
    depth: int
    elements: int
    element: Callable[[Any, Any, Any], Any]
    run: int

    @property
    def on_tensor_cores(self) -> bool:
        return self.rows > 4 and self.columns >= _MIN_COLUMNS and self.depth >= _MIN_DEPTH

    def guarded(self, x: Any, m: Any, k: Any, rows: int, depth: int) -> Any:
        """A[m, k] of a product padded to `rows` and `depth`; 0 beyond the matrix."""
        inside: list[Any] = []
        if rows != self.rows:
            inside.append(m < self.rows)
        if depth != self.depth:
            inside.append(k - k % self.run < self.depth)
        value = self.element(x, m, k)
        if not inside:
            return value
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, "int8"))


def padded(weights: Array, rows: int, columns: int) -> Array:
    """int8, zeros added at the ends of both axes."""
    grow = ((0, rows - weights.shape[0]), (0, columns - weights.shape[1]))
    return np.pad(weights.astype(np.int8), grow)


def spread(s: Schedule, block: Any, axes: int, warps: int, lanes: int) -> None:
    """Divide the inner `axes` loops of a block among the threads, `lanes` elements at a time."""
    fused = s.fuse(*s.get_loops(block)[-axes:])
    _, y, x, vector = s.split(fused, [None, warps, WARP, lanes])
    s.bind(y, "threadIdx.y")
    s.bind(x, "threadIdx.x")
    if lanes > 1:
        s.vectorize(vector)
