"""Bytes of activations moved into the form that the dot products take."""

from __future__ import annotations

from ..import_tvm import T
from ._emit import Expr, Tensor, const, spans

_LANES = 64


def copy_bytes(x: Tensor, at: Expr, to: Tensor, start: Expr, count: int, *, flip: bool) -> None:
    """`count` bytes. flip: int8 becomes uint8 = q + 128: the upper bit turns over."""

    def move(index: Expr, lanes: int) -> None:
        kind = "uint8" if lanes == 1 else f"uint8x{lanes}"
        value = x.raw(at + index, lanes)
        value = value if x.dtype == "uint8" else T.reinterpret(kind, value)
        to.put(start + index, value ^ const(128, "uint8", lanes) if flip else value, lanes)

    spans(count, _LANES, move)


def fill_bytes(to: Tensor, start: Expr, count: int, value: int) -> None:
    """`count` times the lower byte of `value`."""

    def put(index: Expr, lanes: int) -> None:
        to.put(start + index, const(value & 255, "uint8", lanes), lanes)

    spans(count, _LANES, put)
