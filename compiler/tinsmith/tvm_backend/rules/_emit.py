"""PrimFuncs written statement by statement: flat buffers, loops, explicit vectors and registers.

Every shape is known when a rule is built, so borders, tails and tiles are spelled out and nothing
is left to a schedule. Vectors may be wider than the machine's: LLVM splits them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...ir.graph import Value
from ...kernels import Constant
from ..import_tvm import PrimFunc, T, ir_builder, tirx
from ..rule import Site

Expr = Any  # a TIR expression, or a Python number where TIR takes one
Span = Callable[[Expr, int], None]  # what to emit for `lanes` elements from a place on


@dataclass(frozen=True)
class Tensor:
    """A flat buffer. offset: what is added to a value to store it, 0 or 128."""

    buffer: Any
    dtype: str
    offset: int = 0

    def raw(self, at: Expr, lanes: int = 1, step: int = 1) -> Expr:
        """What is stored at `at`, `at` + step…"""
        if lanes == 1:
            return self.buffer[at]
        if step != 1:
            return self.buffer[T.ramp(at, step, lanes)]
        return self.buffer.vload([at], vector(self.dtype, lanes))

    def load(self, at: Expr, lanes: int, dtype: str) -> Expr:
        """The values from `at` on, as `dtype`."""
        loaded = self.raw(at, lanes).astype(vector(dtype, lanes))
        return loaded - const(self.offset, dtype, lanes) if self.offset else loaded

    def spread(self, at: Expr, lanes: int, dtype: str) -> Expr:
        """The value at `at` in every lane, as `dtype`."""
        return broadcast(self.load(at, 1, dtype), lanes)

    def put(self, at: Expr, stored: Expr, lanes: int = 1) -> None:
        """Stores what has this buffer's type."""
        T.buffer_store(self.buffer, stored, [at if lanes == 1 else T.ramp(at, 1, lanes)])

    def store(self, at: Expr, value: Expr, lanes: int, dtype: str) -> None:
        """Stores values of type `dtype`, which are in range."""
        if self.offset:
            value = value + const(self.offset, dtype, lanes)
        self.put(at, value.astype(vector(self.dtype, lanes)), lanes)


@dataclass(frozen=True)
class Register:
    """A vector that lives in a register."""

    buffer: Any
    dtype: str
    lanes: int

    @staticmethod
    def new(dtype: str, lanes: int) -> Register:
        return Register(T.alloc_buffer((lanes,), dtype, scope="local"), dtype, lanes)

    @property
    def value(self) -> Expr:
        return Tensor(self.buffer, self.dtype).raw(0, self.lanes)

    def set(self, value: Expr) -> None:
        Tensor(self.buffer, self.dtype).put(0, value, self.lanes)


@dataclass(frozen=True)
class Frame:
    """The parameters of a function. inputs: activations by their position in the node."""

    inputs: Mapping[int, Tensor]
    outputs: Sequence[Tensor]
    constants: Mapping[str, Tensor]
    scratch: Any = None

    @property
    def x(self) -> Tensor:
        return next(iter(self.inputs.values()))

    @property
    def y(self) -> Tensor:
        return self.outputs[0]


def define(
    site: Site,
    body: Callable[[Frame], None],
    constants: Mapping[str, Constant] | None = None,
    *,
    state: Mapping[str, Value] | None = None,
    scratch_bytes: int = 0,
    overlaps: bool = False,
) -> PrimFunc:
    """The PrimFunc with the parameters of `site` and the statements that `body` emits.

    state: as `Rule.state`; found among the constants of the frame.
    overlaps: the output may overlap an input: `lead_bytes` says more than None.
    """
    node, graph = site.node, site.graph
    taken = set(graph.activations(node))
    with ir_builder.IRBuilder() as builder, ir_builder.tirx.prim_func(s_tir=True):
        T.func_name("main")
        if not overlaps:
            T.func_attr({"tirx.noalias": True})
        inputs = {i: _parameter(site, f"x{i}", v) for i, v in enumerate(node.inputs) if v in taken}
        outputs = [_parameter(site, f"y{i}", v) for i, v in enumerate(graph.results(node))]
        tables: dict[str, Tensor] = {}
        for name, value in (state or {}).items():
            tables[name] = _parameter(site, name, value)
        for name, constant in (constants or {}).items():
            dtype = str(constant.array.dtype)
            tables[name] = Tensor(_argument(name, constant.array.size, dtype), dtype)
        scratch = _argument("scratch", scratch_bytes, "uint8") if scratch_bytes else None
        body(Frame(inputs, outputs, tables, scratch))
    return builder.get()


def _parameter(site: Site, name: str, value: Value) -> Tensor:
    dtype = site.dtype(value)
    return Tensor(_argument(name, value.type.elements, dtype), dtype, site.offset(value))


def _argument(name: str, elements: int, dtype: str) -> Any:
    return T.arg(name, T.buffer((elements,), dtype))


def vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def const(value: float, dtype: str, lanes: int = 1) -> Expr:
    return tirx.const(value, vector(dtype, lanes))


def broadcast(value: Expr, lanes: int) -> Expr:
    return value if lanes == 1 else T.broadcast(value, lanes)


def bind(value: Expr) -> Expr:
    """The value, computed once."""
    return value if isinstance(value, int) else T.bind(value)


def clamp(value: Expr, low: Expr, high: Expr) -> Expr:
    return tirx.max(tirx.min(value, high), low)


def clamp_real(value: Expr, bounds: tuple[float, float], lanes: int) -> Expr:
    """A fused activation of float32; an infinite bound is none."""
    low, high = bounds
    if high < math.inf:
        value = tirx.min(value, const(high, "float32", lanes))
    return tirx.max(value, const(low, "float32", lanes)) if low > -math.inf else value


@contextmanager
def loop(count: int) -> Generator[Expr]:
    """0 ≤ i < count; no loop for a single step."""
    if count == 1:
        yield 0
        return
    with T.serial(0, count) as index:
        yield index


def divided(index: Expr, by: int) -> tuple[Expr, Expr]:
    """(index // by, index % by)."""
    if isinstance(index, int):
        return divmod(index, by)
    return tirx.indexdiv(index, by), tirx.indexmod(index, by)


def nest(counts: Sequence[int], body: Callable[..., None]) -> None:
    """body(i0, i1, …) in nested loops, outermost first."""
    if not counts:
        body()
        return
    with loop(counts[0]) as index:
        nest(counts[1:], lambda *inner: body(index, *inner))


def spans(count: int, lanes: int, body: Span) -> None:
    """body(at, lanes) over `count` elements: whole vectors, then powers of two."""
    whole = count // lanes
    if whole:
        with loop(whole) as index:
            body(index * lanes, lanes)
    for start, width in tails(whole * lanes, count, lanes):
        body(start, width)


def tails(start: int, end: int, lanes: int) -> Iterator[tuple[int, int]]:
    """[start, end) in vectors of at most `lanes`, powers of two: (start, lanes) of each."""
    width = 1 << (lanes.bit_length() - 1)
    while start < end:
        while width > end - start:
            width //= 2
        yield start, width
        start += width


def wide_int(lanes: int) -> str:
    """int32, which vectors compute in; int64 for a single one.

    TVM distributes scalar products over sums as if nothing overflowed; in int64 nothing does.
    """
    return "int32" if lanes > 1 else "int64"
