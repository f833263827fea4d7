"""Copies and elementwise functions between strided views of flat buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..import_tvm import T
from ._emit import Expr, Tensor, const, nest, spans, vector

_COPY_BYTES = 64
_GATHER = 16


@dataclass(frozen=True)
class Axis:
    """A loop: its count, and how many elements each step goes on in the source and the target."""

    count: int
    source: int
    target: int


def merge(axes: Sequence[Axis]) -> list[Axis]:
    """The fewest loops that walk the same way; a single step needs none."""
    merged: list[Axis] = []
    for a in axes:
        if a.count == 1:
            continue
        last = merged[-1] if merged else None
        if last and (last.source, last.target) == (a.source * a.count, a.target * a.count):
            merged[-1] = Axis(last.count * a.count, a.source, a.target)
        else:
            merged.append(a)
    return merged


def copy(source: Tensor, target: Tensor, axes: Sequence[Axis], start: int = 0, at: int = 0) -> None:
    """target[at + Σ i·target] = source[start + Σ i·source]; one type, or two ways to store it."""
    loops = merge(axes)
    run = loops.pop() if loops and loops[-1].target == 1 else Axis(1, 1, 1)
    lanes = _COPY_BYTES // (4 if source.dtype == "float32" else 1) if run.source == 1 else _GATHER

    def row(*index: Expr) -> None:
        read = start + sum(i * a.source for i, a in zip(index, loops, strict=True))
        write = at + sum(i * a.target for i, a in zip(index, loops, strict=True))

        def body(offset: Expr, width: int) -> None:
            if run.source == 0:
                moved = T.broadcast(source.raw(read), width) if width > 1 else source.raw(read)
            else:
                moved = source.raw(read + offset * run.source, width, run.source)
            target.put(write + offset, restored(moved, source, target, width), width)

        spans(run.count, lanes, body)

    nest([a.count for a in loops], row)


def restored(stored: Expr, source: Tensor, target: Tensor, lanes: int) -> Expr:
    """What `source` holds as `target` holds it: q + 128 differs from q in the highest bit."""
    if source.dtype == target.dtype:
        return stored
    flipped = T.reinterpret(stored, dtype=vector(target.dtype, lanes))
    return flipped ^ const(-128 if target.dtype == "int8" else 128, target.dtype, lanes)


def fill(target: Tensor, value: float, axes: Sequence[Axis], at: int = 0) -> None:
    """target[at + Σ i·target] = value, an integer or real that the target stands for."""
    loops = merge([Axis(a.count, 0, a.target) for a in axes])
    run = loops.pop().count if loops and loops[-1].target == 1 else 1
    lanes = _COPY_BYTES // (4 if target.dtype == "float32" else 1)

    def row(*index: Expr) -> None:
        write = at + sum(i * a.target for i, a in zip(index, loops, strict=True))
        spans(
            run,
            lanes,
            lambda offset, width: target.put(
                write + offset, const(value + target.offset, target.dtype, width), width
            ),
        )

    nest([a.count for a in loops], row)
