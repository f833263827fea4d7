"""Arithmetic on loop indices, some of which are plain numbers."""

from __future__ import annotations

from ..import_tvm import tirx
from ._emit import Expr


def split(index: Expr, by: int) -> tuple[Expr, Expr]:
    """(quotient, remainder) of an index that is not negative."""
    if by == 1:
        return index, 0
    if isinstance(index, int):
        return divmod(index, by)
    return tirx.indexdiv(index, by), tirx.indexmod(index, by)


def at_most(value: Expr, limit: int, step: int) -> Expr:
    """min(value, limit) of a multiple of `step`: steps overlap where the last goes too far."""
    if isinstance(value, int):
        return min(value, limit)
    return value if limit % step == 0 else tirx.min(value, tirx.const(limit, "int32"))
