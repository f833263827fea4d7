"""Int8 dot products with the integer epilogue: a warp for each output, for few rows of input."""

from __future__ import annotations

from ..import_tvm import PrimFunc, Schedule, te
from .intrinsics import DP4A_LOCAL, register_intrinsics
from .requantize import Requantize

FEW_ROWS = 4
LANES = 16  # bytes that a thread reads at once
_WARP, _BLOCK = 32, 128


def gemv(rows: int, columns: int, depth: int, scale: Requantize) -> PrimFunc:
    """Parameters: x, w [columns, depth], multiplier, bias, shift, y; depth a multiple of LANES."""
    register_intrinsics()
    threads = _WARP
    while threads > 1 and depth % (threads * LANES):
        threads //= 2
    x = te.placeholder((rows * depth,), "int8", "x")
    w = te.placeholder((columns * depth,), "int8", "w")
    constants = scale.placeholders()
    steps = depth // (threads * LANES)
    ko, kq = te.reduce_axis((0, steps), "ko"), te.reduce_axis((0, LANES // 4), "kq")
    ki, kt = te.reduce_axis((0, 4), "ki"), te.reduce_axis((0, threads), "kt")
    # Inputs as [row, step, thread, LANES]: the order in which a warp reads 16 bytes per thread.
    a = te.compute(
        (rows, steps, threads, LANES),
        lambda m, o, t, i: x[((m * steps + o) * threads + t) * LANES + i],
        "A",
    )
    b = te.compute(
        (columns, steps, threads, LANES),
        lambda n, o, t, i: w[((n * steps + o) * threads + t) * LANES + i],
        "B",
    )
    p = te.compute(
        (rows, columns, threads),
        lambda m, n, t: te.sum(
            a[m, ko, t, kq * 4 + ki].astype("int32") * b[n, ko, t, kq * 4 + ki].astype("int32"),
            axis=[ko, kq, ki],
        ),
        "P",
    )
    c = te.compute((rows, columns), lambda m, n: te.sum(p[m, n, kt], axis=kt), "C")
    y = te.compute((rows, columns), lambda m, n: scale(c[m, n], *(v[n] for v in constants)), "y")
    # A tensorised loop takes no condition: the outputs divide evenly among the blocks.
    side = max(d for d in range(1, _BLOCK // threads + 1) if rows * columns % d == 0)
    return _schedule(te.create_prim_func([x, w, *constants, y]), columns, side)


def _schedule(function: PrimFunc, columns: int, side: int) -> PrimFunc:
    s = Schedule(function)
    a, b, p, c, y = (s.get_sblock(name) for name in ("A", "B", "P", "C", "y"))
    for block in (a, b, p, c):
        s.set_scope(block, 0, "local")
    output = s.fuse(*s.get_loops(y))
    block, warp = s.split(output, [None, side])
    s.bind(block, "blockIdx.x")
    s.bind(warp, "threadIdx.y")
    s.compute_at(c, warp, preserve_unit_loops=True)
    thread = s.get_loops(c)[-1]
    s.bind(thread, "threadIdx.x")
    s.compute_at(p, thread, preserve_unit_loops=True)
    ko, kq, ki = s.get_loops(p)[-3:]
    for read in (a, b):
        s.compute_at(read, ko, preserve_unit_loops=True)
        s.vectorize(s.get_loops(read)[-1])
    s.unroll(kq)
    s.decompose_reduction(p, ko)
    s.tensorize(ki, DP4A_LOCAL)
    s.transform_layout(y, ("write", 0), lambda m, n: [m * columns + n])
    return s.mod["main"]
