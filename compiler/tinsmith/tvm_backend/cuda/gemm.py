"""Int8 matrix products with the integer epilogue fused: tensor cores, or DP4A for narrow ones.

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
from ...kernels import Constant
from ..import_tvm import PrimFunc, Schedule, te, tirx
from .intrinsics import (
    DP4A,
    FRAGMENT,
    WMMA_FILL,
    WMMA_LOAD_A,
    WMMA_LOAD_B,
    WMMA_STORE,
    WMMA_SYNC,
    register_intrinsics,
)
from .requantize import Requantize

WARP = 32
_WANTED_BLOCKS = 128  # about the multiprocessors of a large GPU: smaller tiles below it
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


@dataclass(frozen=True)
class _Tiles:
    """Of a block, in fragments: rows, columns, depth; and how its warps divide them."""

    rows: int
    columns: int
    depth: int
    warp_rows: int
    warp_columns: int

    @property
    def warps(self) -> int:
        return self.warp_rows * self.warp_columns


_TILES = ((4, 8, 2, 4), (4, 4, 2, 2), (4, 2, 4, 1), (2, 2, 2, 2), (2, 1, 2, 1), (1, 1, 1, 1))


def gemm(product: Gemm, scale: Requantize) -> PrimFunc:
    """Parameters: x, w, multiplier, bias, shift, y; w as `packed_weights` has it."""
    register_intrinsics()
    return _on_tensor_cores(product, scale) if product.on_tensor_cores else _dp4a(product, scale)


def packed_weights(product: Gemm, weights: Array) -> Constant:
    """int8 [columns, depth] → the order in which the kernel of `gemm` reads them."""
    if product.on_tensor_cores:
        depth = _depth_fragments(product)[0]
        columns = -(-product.columns // FRAGMENT)
        padded = _padded(weights, columns * FRAGMENT, depth * FRAGMENT)
        blocks = padded.reshape(columns, FRAGMENT, depth, FRAGMENT).transpose(0, 2, 1, 3)
        return Constant(np.ravel(blocks), FRAGMENT)
    tile = _narrow_tile(product)
    return Constant(np.ravel(_padded(weights, tile.columns, tile.depth)), 16)


def _padded(weights: Array, rows: int, columns: int) -> Array:
    grow = ((0, rows - weights.shape[0]), (0, columns - weights.shape[1]))
    return np.pad(weights.astype(np.int8), grow)


def _depth_fragments(product: Gemm) -> tuple[int, int]:
    """Of the padded depth, and of a block's share of it."""
    count = -(-product.depth // FRAGMENT)
    step = max(d for d in range(1, 7) if count % d == 0)
    if step == 1 and count > 6:
        count += -count % 4
        step = 4
    return count, step


def _tiles(product: Gemm) -> _Tiles:
    rows, columns = (-(-n // FRAGMENT) for n in (product.rows, product.columns))
    depth = _depth_fragments(product)[1]
    fitting = [t for t in _TILES if t[0] <= rows and t[1] <= columns]
    enough = (t for t in fitting if -(-rows // t[0]) * -(-columns // t[1]) >= _WANTED_BLOCKS)
    m, n, warp_rows, warp_columns = next(enough, fitting[-1])
    return _Tiles(m, n, depth, warp_rows, warp_columns)


def _guarded(product: Gemm, x: Any, m: Any, k: Any, rows: int, depth: int) -> Any:
    """A[m, k], 0 beyond the matrix."""
    inside: list[Any] = []
    if rows != product.rows:
        inside.append(m < product.rows)
    if depth != product.depth:
        inside.append(k - k % product.run < product.depth)
    value = product.element(x, m, k)
    if not inside:
        return value
    return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, "int8"))


def _on_tensor_cores(product: Gemm, scale: Requantize) -> PrimFunc:
    f, tiles = FRAGMENT, _tiles(product)
    k_count = _depth_fragments(product)[0]
    m_count = -(-product.rows // (f * tiles.rows)) * tiles.rows
    n_count = -(-product.columns // f)
    n_padded = -(-n_count // tiles.columns) * tiles.columns
    x = te.placeholder((product.elements,), "int8", "x")
    w = te.placeholder((n_count * k_count * f * f,), "int8", "w")
    constants = scale.placeholders()
    rows, depth = m_count * f, k_count * f
    a = te.compute(
        (m_count, k_count, f, f),
        lambda m, k, i, j: _guarded(product, x, m * f + i, k * f + j, rows, depth),
        "A",
    )
    last = n_count - 1  # a tile of fragments may reach beyond the weights
    b = te.compute(
        (n_padded, k_count, f, f),
        lambda n, k, i, j: w[((_least(n, last, n_padded) * k_count + k) * f + i) * f + j],
        "B",
    )
    ko, ki = te.reduce_axis((0, k_count), "ko"), te.reduce_axis((0, f), "ki")
    c = te.compute(
        (m_count, n_padded, f, f),
        lambda m, n, i, j: te.sum(
            a[m, ko, i, ki].astype("int32") * b[n, ko, j, ki].astype("int32"), axis=[ko, ki]
        ),
        "C",
    )
    y = te.compute(
        (product.rows, product.columns),
        lambda m, n: scale(c[m // f, n // f, m % f, n % f], *(v[n] for v in constants)),
        "y",
    )
    return _schedule_wmma(te.create_prim_func([x, w, *constants, y]), product, tiles)


def _least(index: Any, last: int, padded: int) -> Any:
    return index if last == padded - 1 else te.min(index, last)


def _schedule_wmma(function: PrimFunc, product: Gemm, tiles: _Tiles) -> PrimFunc:
    s = Schedule(function)
    a, b, c, y = (s.get_sblock(name) for name in ("A", "B", "C", "y"))
    store = s.cache_write(c, 0, "wmma.accumulator")
    m, n, i, j, ko, ki = s.get_loops(c)
    m0, m1, m2 = s.split(m, [None, tiles.warp_rows, tiles.rows // tiles.warp_rows])
    n0, n1, n2 = s.split(n, [None, tiles.warp_columns, tiles.columns // tiles.warp_columns])
    k0, k1 = s.split(ko, [None, tiles.depth])
    s.reorder(m0, n0, m1, n1, k0, k1, m2, n2, i, j, ki)
    block = s.fuse(m0, n0)
    s.bind(block, "blockIdx.x")
    warp = s.fuse(m1, n1)
    s.bind(warp, "threadIdx.y")
    load_a, load_b = s.cache_read(c, 0, "wmma.matrix_a"), s.cache_read(c, 1, "wmma.matrix_b")
    for fragment, shared in ((load_a, a), (load_b, b)):
        s.set_scope(shared, 0, "shared")
        s.compute_at(fragment, k1, preserve_unit_loops=True)
        s.compute_at(shared, k0, preserve_unit_loops=True)
    spread(s, a, 4, tiles.warps, product.run)
    spread(s, b, 4, tiles.warps, FRAGMENT)
    s.set_scope(store, 0, "shared")
    s.reverse_compute_at(store, warp, preserve_unit_loops=True)
    s.reverse_compute_at(y, block, preserve_unit_loops=True)
    spread(s, y, 2, tiles.warps, 4 if product.columns % 4 == 0 else 1)
    init = s.decompose_reduction(c, k0)
    s.tensorize(s.get_loops(init)[-2], WMMA_FILL)
    s.tensorize(s.get_loops(load_a)[-2], WMMA_LOAD_A)
    s.tensorize(s.get_loops(load_b)[-2], WMMA_LOAD_B)
    s.tensorize(s.get_loops(c)[-3], WMMA_SYNC)
    s.tensorize(s.get_loops(store)[-2], WMMA_STORE)
    s.transform_layout(y, ("write", 0), lambda m, n: [m * product.columns + n])
    return s.mod["main"]


def spread(s: Schedule, block: Any, axes: int, warps: int, lanes: int) -> None:
    """Divide the inner `axes` loops of a block among the threads, `lanes` elements at a time."""
    fused = s.fuse(*s.get_loops(block)[-axes:])
    _, y, x, vector = s.split(fused, [None, warps, WARP, lanes])
    s.bind(y, "threadIdx.y")
    s.bind(x, "threadIdx.x")
    if lanes > 1:
        s.vectorize(vector)


@dataclass(frozen=True)
class _Narrow:
    """Tiles of the DP4A kernel: padded columns and depth; a block's threads and depth."""

    columns: int
    depth: int
    step: int
    threads_m: int
    threads_n: int
    per_thread: int


def _narrow_tile(product: Gemm) -> _Narrow:
    columns = -(-product.columns // 4) * 4
    depth = -(-product.depth // 16) * 16
    step = max(d for d in (64, 48, 32, 16) if depth % d == 0)
    threads_n = max(d for d in (1, 2, 4, 8) if columns % (4 * d) == 0)
    threads_m = 128 // threads_n
    per_thread = 4
    while per_thread > 1 and product.rows < threads_m * per_thread * _WANTED_BLOCKS:
        per_thread //= 2
    return _Narrow(columns, depth, step, threads_m, threads_n, per_thread)


def _dp4a(product: Gemm, scale: Requantize) -> PrimFunc:
    tile = _narrow_tile(product)
    height = tile.threads_m * tile.per_thread
    rows, depth = -(-product.rows // height) * height, tile.depth
    x = te.placeholder((product.elements,), "int8", "x")
    w = te.placeholder((tile.columns * depth,), "int8", "w")
    constants = scale.placeholders()
    a = te.compute((rows, depth), lambda m, k: _guarded(product, x, m, k, rows, depth), "A")
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
