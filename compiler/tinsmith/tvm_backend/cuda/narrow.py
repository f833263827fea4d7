"""Matrix products with few columns: DP4A on tiles in shared memory, 4 columns to a thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...kernels import Constant
from ..import_tvm import PrimFunc, Schedule, te
from .intrinsics import DP4A, register_intrinsics
from .product import WANTED_BLOCKS, WARP, Gemm, padded, spread
from .requantize import Requantize


def pack_rows(product: Gemm, weights: Array) -> Constant:
    """int8 [columns, depth], both padded."""
    tile = _tile_of(product)
    return Constant(np.ravel(padded(weights, tile.columns, tile.depth)), 16)


@dataclass(frozen=True)
class _Narrow:
    """Tiles of the DP4A kernel: padded columns and depth; a block's threads and depth."""

    columns: int
    depth: int
    step: int
    threads_m: int
    threads_n: int
    per_thread: int


def _tile_of(product: Gemm) -> _Narrow:
    columns = -(-product.columns // 4) * 4
    depth = -(-product.depth // 16) * 16
    step = max(d for d in (64, 48, 32, 16) if depth % d == 0)
    threads_n = max(d for d in (1, 2, 4, 8) if columns % (4 * d) == 0)
    threads_m = 128 // threads_n
    per_thread = 4
    while per_thread > 1 and product.rows < threads_m * per_thread * WANTED_BLOCKS:
        per_thread //= 2
    return _Narrow(columns, depth, step, threads_m, threads_n, per_thread)


def dp4a_product(product: Gemm, scale: Requantize) -> PrimFunc:
    """Parameters: x, w as `pack_rows` has it, multiplier, bias, shift, y."""
    register_intrinsics()
    tile = _tile_of(product)
    height = tile.threads_m * tile.per_thread
    rows, depth = -(-product.rows // height) * height, tile.depth
    x = te.placeholder((product.elements,), "int8", "x")
    w = te.placeholder((tile.columns * depth,), "int8", "w")
    constants = scale.placeholders()
    a = te.compute((rows, depth), lambda m, k: product.guarded(x, m, k, rows, depth), "A")
    b = te.compute((tile.columns, depth), lambda n, k: w[n * depth + k], "B")
    ko, ki = te.reduce_axis((0, depth // 4), "ko"), te.reduce_axis((0, 4), "ki")
    c = te.compute(
        (rows, tile.columns),
        lambda m, n: te.sum(
            a[m, ko * 4 + ki].astype("int32") * b[n, ko * 4 + ki].astype("int32"), axis=[ko, ki]
        ),
        "C",
    )
    y = te.compute(
        (product.rows, product.columns),
        lambda m, n: scale(c[m, n], *(v[n] for v in constants)),
        "y",
    )
    return _schedule_dp4a(te.create_prim_func([x, w, *constants, y]), product, tile)


def _schedule_dp4a(function: PrimFunc, product: Gemm, tile: _Narrow) -> PrimFunc:
    s = Schedule(function)
    a, b, c, y = (s.get_sblock(name) for name in ("A", "B", "C", "y"))
    s.set_scope(c, 0, "local")
    m, n, ko, ki = s.get_loops(c)
    m0, m1, m2 = s.split(m, [None, tile.threads_m, tile.per_thread])
    n0, n1, n2 = s.split(n, [None, tile.threads_n, 4])
    k0, k1 = s.split(ko, [None, tile.step // 4])
    s.reorder(m0, n0, m1, n1, k0, k1, m2, n2, ki)
    block, thread = s.fuse(m0, n0), s.fuse(m1, n1)
    ty, tx = s.split(thread, [None, WARP])
    s.bind(block, "blockIdx.x")
    s.bind(ty, "threadIdx.y")
    s.bind(tx, "threadIdx.x")
    warps = tile.threads_m * tile.threads_n // WARP
    for shared, run in ((a, min(product.run, 16)), (b, 16)):
        s.set_scope(shared, 0, "shared")
        s.compute_at(shared, k0, preserve_unit_loops=True)
        s.storage_align(shared, 0, axis=0, factor=32, offset=4 if run < 16 else 16)
        spread(s, shared, 2, warps, run)
    s.reverse_compute_at(y, tx, preserve_unit_loops=True)
    i, j = s.get_loops(y)[-2:]
    if product.columns % 4 == 0:
        s.vectorize(j)
    s.unroll(i)
    s.unroll(m2)
    s.unroll(n2)
    s.unroll(k1)
    s.decompose_reduction(c, k0)
    s.tensorize(ki, DP4A)
    s.transform_layout(y, ("write", 0), lambda m, n: [m * product.columns + n])
    return s.mod["main"]
