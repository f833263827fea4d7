"""Kernels written statement by statement: for operators that go on in place or in a stated order.

Every phase is a kernel of its own, a thread for each of its elements; the next one sees all that it
wrote. Float32 operations are the intrinsics that round once: nvcc would otherwise fuse a product
and a sum into one rounding, and results would no longer be those of `ops/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...ir.graph import Graph, Node
from ...kernels import Constant
from ..import_tvm import PrimFunc, T, ir_builder, tirx
from .rule import buffer_names, operand_names, state_names

Expr = Any  # a TIR expression, or a Python number where TIR takes one
Phase = tuple[int, Callable[[Expr], None]]  # threads, and the statements of one of them

_THREADS = 64


@dataclass(frozen=True)
class Operands:
    """The buffers of a node. inputs, outputs: by position; None for what has no elements. An
    output that is a new version of a state is the state's own buffer. tables: further constants.
    """

    inputs: Sequence[Any]
    outputs: Sequence[Any]
    tables: Mapping[str, Any]


def phases(
    node: Node,
    graph: Graph,
    write: Callable[[Operands], Sequence[Phase]],
    tables: Mapping[str, Constant] | None = None,
) -> PrimFunc:
    """A kernel for every phase of `write`. Parameters: activations, results, state and constants
    as `rule.py` names them, then `tables`; constants without elements are left out."""
    with ir_builder.IRBuilder() as builder, ir_builder.tirx.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        named = dict(buffer_names(node, graph)) | dict(state_names(node, graph))
        operands = operand_names(node, graph)
        named |= {
            name: value
            for name, value in zip(operands, node.inputs, strict=True)
            if name.startswith("c") and value.type.elements
        }
        made = {
            name: T.arg(name, T.buffer((v.type.elements,), v.type.dtype.value))
            for name, v in named.items()
        }
        more = {
            name: T.arg(name, T.buffer((c.array.size,), str(c.array.dtype)))
            for name, c in (tables or {}).items()
        }
        own = {new: operands[node.inputs.index(old)] for old, new in node.updates}
        results = iter(name for name in named if name.startswith("y"))
        outputs = [
            made[own[v] if v in graph.storage and v in own else next(results)] for v in node.outputs
        ]
        for count, body in write(Operands([made.get(n) for n in operands], outputs, more)):
            _launch(count, body)
    return builder.get()


def _launch(count: int, body: Callable[[Expr], None]) -> None:
    threads = min(count, _THREADS)
    with (
        T.thread_binding(0, -(-count // threads), "blockIdx.x") as block,
        T.thread_binding(0, threads, "threadIdx.x") as thread,
    ):
        index = T.bind(block * threads + thread)
        if count % threads == 0:
            body(index)
        else:
            with T.If(index < count), T.Then():
                body(index)


class Cell:
    """A variable of a thread, in a register."""

    def __init__(self, dtype: str, start: Expr) -> None:
        self._buffer = T.alloc_buffer((1,), dtype, scope="local")
        self._dtype = dtype
        self.set(start)

    @property
    def value(self) -> Expr:
        return self._buffer[0]

    def set(self, value: Expr) -> None:
        number = isinstance(value, int | float)
        store(self._buffer, 0, tirx.const(value, self._dtype) if number else value)


def store(buffer: Any, at: Expr, value: Expr) -> None:
    """buffer[at] = value, which has its type."""
    T.buffer_store(buffer, value, [at])


def atomic(function: str, buffer: Any, at: Expr, value: Expr) -> None:
    """An `int` function of CUDA that reads and writes at once: atomicAdd, atomicMax."""
    T.evaluate(tirx.call_extern("int32", function, T.address_of(buffer[at]), value))


def _exact(function: str, *arguments: Expr) -> Expr:
    return tirx.call_pure_extern("float32", function, *arguments)


def times(a: Expr, b: Expr) -> Expr:
    return _exact("__fmul_rn", a, b)


def plus(a: Expr, b: Expr) -> Expr:
    return _exact("__fadd_rn", a, b)


def minus(a: Expr, b: Expr) -> Expr:
    return _exact("__fsub_rn", a, b)


def over(a: Expr, b: Expr) -> Expr:
    return _exact("__fdiv_rn", a, b)


def nearest(value: Expr) -> Expr:
    """A float32 rounded to a whole one, halves to even."""
    return _exact("rintf", value)


def real(value: float) -> Expr:
    """A float32 constant, which the source shows to its last bit."""
    return tirx.const(value, "float32")


def bits_of(value: Expr) -> Expr:
    """A float32's bits as int32."""
    return tirx.call_pure_extern("int32", "__float_as_int", value)


def from_bits(bits: Expr) -> Expr:
    return _exact("__int_as_float", bits)


def power_of_two(exponent: Expr) -> Expr:
    """2^e from its bits, −126 ≤ e ≤ 127."""
    return from_bits((exponent + 127) << 23)


def bounded(whole: Expr, limit: float) -> Expr:
    """A whole float32 number as int32 within ±limit; 0 for what is not a number."""
    number = (bits_of(whole) & 0x7FFFFFFF) <= 0x7F800000
    clipped = tirx.max(tirx.min(whole, real(limit)), real(-limit))
    return tirx.if_then_else(number, clipped, real(0)).astype("int32")


def clamp(value: Expr, low: int, high: int) -> Expr:
    return tirx.max(tirx.min(value, high), low)
