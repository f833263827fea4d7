"""The tensor intrinsics of the GPU schedules: int8 products on tensor cores, and DP4A.

They are made by TVM's builder, not by its decorator: TVM's own module of intrinsics for CUDA takes
half a minute to import where many modules are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..import_tvm import PrimFunc, T, TensorIntrin, ir_builder

FRAGMENT = 16  # rows, columns and depth of one tensor-core product, m16n16k16
WMMA_FILL = "tinsmith_wmma_fill"
WMMA_LOAD_A = "tinsmith_wmma_load_a"
WMMA_LOAD_B = "tinsmith_wmma_load_b"
WMMA_SYNC = "tinsmith_wmma_sync"
WMMA_STORE = "tinsmith_wmma_store"
DP4A = "tinsmith_dp4a_shared"
DP4A_LOCAL = "tinsmith_dp4a_local"

_TILE = (FRAGMENT, FRAGMENT)
_SIZES = (FRAGMENT, FRAGMENT, FRAGMENT)


@dataclass(frozen=True)
class _Buffer:
    """A parameter: its shape, element type, scope, and whether its rows may be apart."""

    shape: tuple[int, ...]
    dtype: str
    scope: str
    strided: bool = True


Body = Callable[..., None]


@cache
def register_intrinsics() -> None:
    """Make every name above known to TVM, once."""
    a = _Buffer(_TILE, "int8", "wmma.matrix_a")
    b = _Buffer(_TILE, "int8", "wmma.matrix_b")
    c = _Buffer(_TILE, "int32", "wmma.accumulator")
    shared, sums = _Buffer(_TILE, "int8", "shared"), _Buffer(_TILE, "int32", "shared")
    _register(WMMA_FILL, [c], _fill, _wmma_fill)
    _register(WMMA_LOAD_A, [shared, a], _copy, _wmma_load("row_major"))
    _register(WMMA_LOAD_B, [shared, b], _copy, _wmma_load("col_major"))
    _register(WMMA_SYNC, [a, b, c], _multiply, _wmma_sync)
    _register(WMMA_STORE, [c, sums], _copy, _wmma_store)
    for name, scope in ((DP4A, "shared"), (DP4A_LOCAL, "local")):
        four, one = _Buffer((4,), "int8", scope, False), _Buffer((1,), "int32", "local", False)
        _register(name, [four, four, one], _dot, _dp4a)


def _register(name: str, buffers: Sequence[_Buffer], meaning: Body, code: Body) -> None:
    written = buffers[-1]
    adds = len(buffers) == 3  # products accumulate: they read what they write
    functions = [
        _function(buffers, body, adds, strided)
        for body, strided in ((meaning, False), (code, written.strided))
    ]
    TensorIntrin.register(name, *functions, override=True)


def _function(buffers: Sequence[_Buffer], body: Body, adds: bool, strided: bool) -> PrimFunc:
    """body(buffers…), with their row strides after them where `strided`."""
    with ir_builder.IRBuilder() as builder, ir_builder.tirx.prim_func(s_tir=True):
        T.func_name("main")
        handles = [T.arg(f"p{i}", T.handle()) for i in range(len(buffers))]
        bound: list[Any] = []
        strides: list[Any] = []
        for handle, b in zip(handles, buffers, strict=True):
            more: dict[str, Any] = {"align": 64 if b.strided else 4}
            if strided:
                row, column = T.int32(), T.int32()
                more["strides"] = [row, column]
                strides.append(row)
            bound.append(
                T.match_buffer(
                    handle, b.shape, b.dtype, offset_factor=b.shape[-1], scope=b.scope, **more
                )
            )
        with T.sblock("root"):
            read = [bound[-1], *bound[:-1]] if adds else bound[:-1]
            T.reads([_whole(b) for b in read])
            T.writes([_whole(bound[-1])])
            body(*bound, *strides)
    return builder.get()


def _whole(buffer: Any) -> Any:
    return buffer[tuple(slice(0, int(size)) for size in buffer.shape)]


def _copy(source: Any, target: Any) -> None:
    with T.grid(*_TILE) as (i, j), T.sblock("copy"):
        vi, vj = T.axis.remap("SS", [i, j])
        T.buffer_store(target, source[vi, vj], [vi, vj])


def _fill(target: Any) -> None:
    with T.grid(*_TILE) as (i, j), T.sblock("init"):
        vi, vj = T.axis.remap("SS", [i, j])
        T.buffer_store(target, T.int32(0), [vi, vj])


def _multiply(a: Any, b: Any, c: Any) -> None:
    with T.grid(*_SIZES) as (i, j, k), T.sblock("update"):
        vi, vj, vk = T.axis.remap("SSR", [i, j, k])
        product = a[vi, vk].astype("int32") * b[vj, vk].astype("int32")
        T.buffer_store(c, c[vi, vj] + product, [vi, vj])


def _dot(a: Any, b: Any, c: Any) -> None:
    with T.serial(0, 4) as i, T.sblock("update"):
        vi = T.axis.remap("R", [i])
        product = a[vi].astype("int32") * b[vi].astype("int32")
        T.buffer_store(c, c[0] + product, [0])


def _index(buffer: Any, row_stride: Any) -> Any:
    """Which fragment of its array a tile is."""
    row = buffer.elem_offset // row_stride // FRAGMENT
    column = buffer.elem_offset % row_stride // FRAGMENT
    return row * (row_stride // FRAGMENT) + column


def _wmma_fill(c: Any, row: Any) -> None:
    T.evaluate(T.tvm_fill_fragment(c.data, *_SIZES, _index(c, row), T.float32(0)))


def _wmma_load(layout: str) -> Body:
    def load(source: Any, target: Any, source_row: Any, target_row: Any) -> None:
        pointer = source.access_ptr("r", ptr_type="int8")
        T.evaluate(
            T.tvm_load_matrix_sync(
                target.data, *_SIZES, _index(target, target_row), pointer, source_row, layout
            )
        )

    return load


def _wmma_sync(a: Any, b: Any, c: Any, a_row: Any, b_row: Any, c_row: Any) -> None:
    sums = (c.data, _index(c, c_row))
    T.evaluate(T.tvm_mma_sync(*sums, a.data, _index(a, a_row), b.data, _index(b, b_row), *sums))


def _wmma_store(c: Any, target: Any, c_row: Any, target_row: Any) -> None:
    pointer = target.access_ptr("w", ptr_type="int32")
    T.evaluate(
        T.tvm_store_matrix_sync(c.data, *_SIZES, _index(c, c_row), pointer, target_row, "row_major")
    )


def _dp4a(a: Any, b: Any, c: Any) -> None:
    """TVM's own adds to C outside of the intrinsic, one instruction more."""
    words = [v.vload([0], "int8x4") for v in (a, b)]
    T.buffer_store(c, T.call_pure_extern("int32", "__dp4a", *words, c[0]), [0])
