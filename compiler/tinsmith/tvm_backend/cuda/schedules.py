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
    """One kernel; `y` (flat) reads the reduction "C" (flat, of the same extent) in registers.

    lanes: consecutive elements per thread, computed as one vector.
    """
    s = Schedule(te.create_prim_func([*buffers, y]))
    c = s.get_sblock("C")
    s.set_scope(c, 0, "local")
    thread = _bind_threads(s, s.get_sblock("y"), lanes)
    s.compute_at(c, thread, preserve_unit_loops=True)
    loops = s.get_loops(c)
    inner = loops[loops.index(thread) + 1 :] if thread in loops else loops[2:]
    element, reduced = inner[0], inner[1:]
    s.reorder(*reduced, element)
    if lanes > 1:
        s.vectorize(element)
    s.decompose_reduction(c, reduced[0])
    return s.mod["main"]


def _bind_threads(s: Schedule, block: Any, lanes: int) -> Any:
    """Split the block's only loop over blocks and threads; the loop of the threads."""
    (loop,) = s.get_loops(block)
    threads = THREADS if int(s.get(loop).extent) >= _FEW * lanes else THREADS // 2
    outer, thread, vector = s.split(loop, [None, threads, lanes])
    s.bind(outer, "blockIdx.x")
    s.bind(thread, "threadIdx.x")
    if lanes > 1:
        s.vectorize(vector)
    return thread
