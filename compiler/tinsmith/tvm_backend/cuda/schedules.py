"""Schedules for everything but matrix products: a thread for a few elements of the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..import_tvm import PrimFunc, Schedule, te

THREADS = 128
_FEW = 128 * THREADS  # fewer elements than that: smaller blocks, on more multiprocessors


def elementwise(
    buffers: Sequence[Any], outputs: Sequence[tuple[int, Callable[[Any], Any]]], lanes: int = 1
) -> PrimFunc:
    """One kernel for each element of the outputs: (elements, function of the flat index).

    The first output has the most elements; of several, each is a branch of the kernel of its own.
    lanes: consecutive elements per thread, a divisor of the elements of every output.
    """
    computed = [
        te.compute((size,), function, name=f"y{i or ''}")
        for i, (size, function) in enumerate(outputs)
    ]
    s = Schedule(te.create_prim_func([*buffers, *computed]))
    for i in range(len(computed)):
        _bind_threads(s, s.get_sblock(f"y{i or ''}"), lanes)
    return s.mod["main"]


def reduction(buffers: Sequence[Any], y: Any, lanes: int = 1) -> PrimFunc:
    """One kernel; `y` [rows, columns] reads the reduction "C" of the same shape, in registers.

    lanes: neighbours in a row that a thread computes as one vector. The row and the column of an
    element are separate, so that a condition on the row is seen to be one for the whole vector.
    """
    s = Schedule(te.create_prim_func([*buffers, y]))
    columns = int(y.shape[1])
    c, block = s.get_sblock("C"), s.get_sblock("y")
    s.set_scope(c, 0, "local")
    row, column = s.get_loops(block)
    first, vector = s.split(column, [None, lanes])
    thread = _split_threads(s, s.fuse(row, first))
    if lanes > 1:
        s.vectorize(vector)
    s.compute_at(c, thread, preserve_unit_loops=True)
    _, element, *reduced = s.get_loops(c)[-2 - _reduced_axes(s, c) :]
    s.reorder(*reduced, element)
    if lanes > 1:
        s.vectorize(element)
    s.decompose_reduction(c, reduced[0])
    s.transform_layout(block, ("write", 0), lambda i, j: [i * columns + j])
    return s.mod["main"]


def _reduced_axes(s: Schedule, block: Any) -> int:
    """How many axes a block sums over."""
    return len(s.get(block).iter_vars) - 2


def _bind_threads(s: Schedule, block: Any, lanes: int) -> None:
    """Split the block's only loop over blocks, threads and lanes."""
    (loop,) = s.get_loops(block)
    outer, vector = s.split(loop, [None, lanes])
    _split_threads(s, outer)
    if lanes > 1:
        s.vectorize(vector)


def _split_threads(s: Schedule, loop: Any) -> Any:
    """Bind a loop to blocks and threads; the part that is bound to threads."""
    threads = THREADS if int(s.get(loop).extent) >= _FEW else THREADS // 2
    outer, thread = s.split(loop, [None, threads])
    s.bind(outer, "blockIdx.x")
    s.bind(thread, "threadIdx.x")
    return thread
