"""Matrix products on tensor cores: `wmma` on 16×16×16 fragments, int8 to int32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...kernels import Constant
from ..import_tvm import PrimFunc, Schedule, te
from .intrinsics import (
    FRAGMENT,
    WMMA_FILL,
    WMMA_LOAD_A,
    WMMA_LOAD_B,
    WMMA_STORE,
    WMMA_SYNC,
    register_intrinsics,
)
from .product import WANTED_BLOCKS, Gemm, padded, spread
from .requantize import Requantize

_USEFUL = 0.75  # of the columns of a tile that holds the last ones


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


# Rows and columns of fragments, and the warps that share them; larger ones use loads more often.
_TILES = (
    (4, 8, 2, 4),
    (8, 4, 4, 2),
    (4, 4, 2, 2),
    (8, 2, 4, 1),
    (4, 3, 4, 1),
    (4, 2, 4, 1),
    (8, 1, 4, 1),
    (4, 1, 4, 1),
    (2, 2, 2, 2),
    (2, 1, 2, 1),
    (1, 1, 1, 1),
)


def pack_fragments(product: Gemm, weights: Array) -> Constant:
    """int8 [columns, depth] → fragments, one after the other along the depth."""
    depth = _depth_fragments(product)[0]
    columns = -(-product.columns // FRAGMENT)
    whole = padded(weights, columns * FRAGMENT, depth * FRAGMENT)
    blocks = whole.reshape(columns, FRAGMENT, depth, FRAGMENT).transpose(0, 2, 1, 3)
    return Constant(np.ravel(blocks), FRAGMENT)


def _depth_fragments(product: Gemm) -> tuple[int, int]:
    """Of the padded depth, and of a block's share of it: up to 4, or shared memory overflows."""
    count = -(-product.depth // FRAGMENT)
    while count > 4 and count % 3 and count % 4:
        count += 1
    return count, next(d for d in (4, 3, 2, 1) if count % d == 0)


def _tiles(product: Gemm) -> _Tiles:
    """The largest tile of which there are enough; the smallest when there never are."""
    rows, columns = (-(-n // FRAGMENT) for n in (product.rows, product.columns))
    depth = _depth_fragments(product)[1]

    def fits(m: int, n: int) -> bool:
        blocks = -(-columns // n)
        enough = -(-rows // m) * blocks >= WANTED_BLOCKS
        return enough and columns / (blocks * n) >= _USEFUL

    chosen = next((t for t in _TILES if fits(t[0], t[1])), _TILES[-1])
    return _Tiles(chosen[0], chosen[1], depth, chosen[2], chosen[3])


def tensor_core_product(product: Gemm, scale: Requantize) -> PrimFunc:
    """Parameters: x, w as `pack_fragments` has it, multiplier, bias, shift, y."""
    register_intrinsics()
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
        lambda m, k, i, j: product.guarded(x, m * f + i, k * f + j, rows, depth),
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
