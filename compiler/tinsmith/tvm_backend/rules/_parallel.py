"""Loops that several threads share, where there is enough to do."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from ..import_tvm import T
from ._emit import Expr, loop

# Some twenty microseconds of one core: less does not pay for what the cores tell each other, above
# all for the halves of the activations that the other one has in its cache.
_LEAST_MACS = 8_000_000
WIDEST = 64  # multiplications of one instruction, in which `macs` are counted

_ALONE = ContextVar("_ALONE", default=False)
Loop = Callable[[int], AbstractContextManager[Expr]]  # 0 ≤ i < count


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
    if count == 1 or not _pays(macs):
        with loop(count) as index:
            yield index
        return
    with T.parallel(0, count) as index:
        yield index


@contextmanager
def shared_loops(count: int, macs: int) -> Generator[Loop]:
    """Yields the loop over `count` parts that threads share, inside of loops that each runs whole.

    Every statement inside has to lie in a shared loop: what does not, each thread runs. A thread
    has the same parts in all of them, and in those of other layers with as many: what it wrote
    stays in its cache. They are launched once, when they have `macs` enough together; otherwise
    they are common loops.
    """
    if count == 1 or not _pays(macs):
        yield loop
        return
    with T.attr(0, "pragma_parallel_launch_point", 1):
        yield lambda parts: T.parallel(0, parts)


def _pays(macs: int) -> bool:
    return macs >= _LEAST_MACS and not _ALONE.get()
