"""Loops that several threads share, where there is enough to do."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from ..import_tvm import T
from ._emit import Expr, loop

# Some twenty microseconds of one core: less does not pay for what the cores tell each other, above
# all for the halves of the activations that the other one has in its cache.
_LEAST_MACS = 8_000_000
WIDEST = 64  # multiplications of one instruction, in which `macs` are counted

_ALONE = ContextVar("_ALONE", default=False)


@contextmanager
def one_thread() -> Generator[None]:
    """What is built inside has no parallel loops: TVM's own pool takes longer to wake than ours."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


@contextmanager
def maybe_parallel(count: int, macs: int) -> Generator[Expr]:
    """0 ≤ i < count in one loop, parallel when the loop has `macs` enough."""
    if count == 1 or macs < _LEAST_MACS or _ALONE.get():
        with loop(count) as index:
            yield index
        return
    with T.parallel(0, count) as index:
        yield index
