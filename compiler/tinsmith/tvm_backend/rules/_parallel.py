"""Loops that several threads share, where there is enough to do."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ..import_tvm import T
from ._emit import Expr, loop

_LEAST_MACS = 2_000_000  # some ten microseconds of one core: less does not pay for waking another


@contextmanager
def maybe_parallel(count: int, macs: int) -> Generator[Expr]:
    """0 ≤ i < count in one loop, parallel when the loop has `macs` enough."""
    if count == 1 or macs < _LEAST_MACS:
        with loop(count) as index:
            yield index
        return
    with T.parallel(0, count) as index:
        yield index
