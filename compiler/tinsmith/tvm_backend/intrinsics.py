"""The dot products of the instruction sets: four bytes of input against four weights per lane.

Each is exact: int32 lanes grow by Σ x[k]·w[lane, k], k = 0…3. What wraps is the int32 sum itself,
which the rules bound. Never `pmaddubsw`, whose 16-bit sums saturate. TVM's own VNNI intrinsic does
not fit the LLVM that it ships (`vpdpbusd` takes bytes there), so all are spelled out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array
from ..machine.target import Dot as DotName
from .import_tvm import Expr, T, tirx

TAPS = 4


@dataclass(frozen=True)
class Dot:
    """A dot product over vectors of `lanes` int32.

    Attributes:
        weight_dtype: of the packed weights.
        parts: how many vectors hold the weights of one step.
        pack: int8 weights [..., lanes, 4] → [..., parts, n], of which n elements are one vector.
        spread: four input bytes as an int32, for every lane → what `add` takes.
        interleave: four vectors of 4·lanes bytes, one of each tap → four of what `add` takes. Lane
            4·i + j of the g-th has channel 16·i + 4·g + j (`interleaved_order`).
        add: (accumulator, input, `parts` weight vectors) → accumulator.
    """

    lanes: int
    weight_dtype: str
    parts: int
    pack: Callable[[Array], Array]
    spread: Callable[[Expr], tuple[Expr, ...]]
    interleave: Callable[[Sequence[Expr]], list[tuple[Expr, ...]]]
    add: Callable[[Expr, tuple[Expr, ...], Sequence[Expr]], Expr]

    @property
    def part_elements(self) -> int:
        """Weights in one vector."""
        return TAPS * self.lanes // self.parts


def dot_product(name: DotName, weights: Array) -> Dot:
    """The dot product `name` for these int8 weights: ARMv8.0 has a longer form for −128."""
    if name == "smlal":
        return _smlal(pairs_fit=bool((weights > -128).all()))
    return {"vnni512": _VNNI512, "vnni256": _VNNI256, "madd256": _MADD256, "sdot": _SDOT}[name]


def interleaved_order(lanes: int) -> Array:
    """[4, lanes]: which of 4·lanes neighbouring channels `interleave` puts where."""
    return np.arange(TAPS * lanes).reshape(-1, 4, 4).swapaxes(0, 1).reshape(4, lanes)


def shuffle(vectors: Sequence[Expr], indices: Iterable[int]) -> Expr:
    """Elements of all `vectors`, one after the other, by index."""
    return tirx.Shuffle(list(vectors), [tirx.const(int(i), "int32") for i in indices])


def intrinsic(dtype: str, name: str, *operands: Expr) -> Expr:
    """A call of one of LLVM's."""
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), *operands, dtype=dtype)


def upper_shift(lanes: int) -> int:
    """What `upper_part` shifts by."""
    return 31 if lanes == 4 else 32


def upper_part(a: Expr, b: Expr, lanes: int) -> Expr:
    """(a·b) >> `upper_shift` of vectors of int32, rounded down; b is not negative.

    On x86 even and odd lanes by themselves, as it multiplies them: LLVM, given the plain product,
    first moves lanes of 32 bits to places of 64 and back. On Arm one instruction, which doubles.
    """
    if lanes == 4:
        return intrinsic("int32x4", "llvm.aarch64.neon.sqdmulh.v4i32", a, b)
    products = [
        x * y for x, y in zip(_even_and_odd(a, lanes), _even_and_odd(b, lanes), strict=True)
    ]
    both = [T.reinterpret(f"int32x{lanes}", p) for p in products]
    return shuffle(both, (i + (i % 2) * lanes | 1 for i in range(lanes)))


def _even_and_odd(value: Expr, lanes: int) -> tuple[Expr, Expr]:
    """int64 of every second lane of int32: sign-extended in place."""
    pairs = T.bind(T.reinterpret(f"int64x{lanes // 2}", value))
    half = T.broadcast(T.int64(32), lanes // 2)
    return (pairs << half) >> half, pairs >> half


def saturating_pack(values: Sequence[Expr], lanes: int, dtype: str) -> Expr:
    """Four vectors of int32 in `interleaved_order` → 4·lanes "int8" or "uint8", in order."""
    if lanes == 4:
        narrow = "sqxtun" if dtype == "uint8" else "sqxtn"
        words = [intrinsic("int16x4", "llvm.aarch64.neon.sqxtn.v4i16", v) for v in values]
        both = [shuffle(words[i : i + 2], range(8)) for i in (0, 2)]
        halves = [intrinsic("int8x8", f"llvm.aarch64.neon.{narrow}.v8i8", v) for v in both]
        return T.reinterpret(f"{dtype}x16", shuffle(halves, range(16)))
    pack, bytes_ = _PACKS[lanes], "packuswb" if dtype == "uint8" else "packsswb"
    halves = [
        intrinsic(f"int16x{2 * lanes}", pack.format("packssdw"), *values[i : i + 2]) for i in (0, 2)
    ]
    packed = intrinsic(f"int8x{4 * lanes}", pack.format(bytes_), *halves)
    return T.reinterpret(f"{dtype}x{4 * lanes}", packed)


_PACKS = {16: "llvm.x86.avx512.{}.512", 8: "llvm.x86.avx2.{}"}


def _whole(lanes: int, name: str, x_dtype: str) -> Dot:
    """One instruction does it all."""

    def pack(weights: Array) -> Array:
        return weights.reshape(*weights.shape[:-2], 1, -1)

    def spread(four: Expr) -> tuple[Expr, ...]:
        return (T.reinterpret(f"{x_dtype}x{TAPS * lanes}", T.broadcast(four, lanes)),)

    def interleave(x: Sequence[Expr]) -> list[tuple[Expr, ...]]:
        return [(quad,) for quad in _quads(x, lanes)]

    def add(total: Expr, x: tuple[Expr, ...], w: Sequence[Expr]) -> Expr:
        return intrinsic(f"int32x{lanes}", name, total, x[0], w[0])

    return Dot(lanes, "int8", 1, pack, spread, interleave, add)


def _quads(x: Sequence[Expr], lanes: int) -> list[Expr]:
    """Four vectors of bytes → four with the bytes of a channel side by side.

    Within 16 bytes each, as `punpck` and `zip` do it: bytes of two taps, then pairs of pairs.
    """
    count = TAPS * lanes
    pairs = [_zipped(x[i], x[i + 1], count, 1) for i in (0, 2)]
    return [quad for low, high in zip(*pairs, strict=True) for quad in _zipped(low, high, count, 2)]


def _zipped(first: Expr, second: Expr, count: int, unit: int) -> tuple[Expr, Expr]:
    """Units of `unit` bytes in turn from both, of the lower and of the upper half of each 16."""
    at = np.stack([np.arange(count), np.arange(count) + count])  # [vector, byte]
    units = at.reshape(2, -1, 2, 8 // unit, unit)  # [vector, 16 bytes, half, unit, byte]
    halves = units.transpose(2, 1, 3, 0, 4).reshape(2, -1)
    low, high = (T.bind(shuffle([first, second], half)) for half in halves)
    return low, high


def _madd256() -> Dot:
    """AVX2: even and odd bytes widened to int16, `vpmaddwd` with weights that are int16 already."""

    def pack(weights: Array) -> Array:
        halves = np.stack([weights[..., 0::2], weights[..., 1::2]], axis=-3)
        return halves.reshape(*halves.shape[:-2], -1).astype(np.int16)

    def widened(quads: Expr) -> tuple[Expr, ...]:
        both = T.reinterpret("uint16x16", quads)
        even = both & T.broadcast(T.uint16(0x00FF), 16)
        odd = both >> T.broadcast(T.uint16(8), 16)
        return T.reinterpret("int16x16", even), T.reinterpret("int16x16", odd)

    def spread(four: Expr) -> tuple[Expr, ...]:
        return widened(T.broadcast(four, 8))

    def interleave(x: Sequence[Expr]) -> list[tuple[Expr, ...]]:
        return [widened(quad) for quad in _quads(x, 8)]

    def add(total: Expr, x: tuple[Expr, ...], w: Sequence[Expr]) -> Expr:
        for values, half in zip(x, w, strict=True):
            total = total + intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", values, half)
        return total

    return Dot(8, "int16", 2, pack, spread, interleave, add)


def _smlal(pairs_fit: bool) -> Dot:
    """ARMv8.0: `smull`, `smlal` to int16, pairs of which `sadalp` adds to int32.

    pairs_fit: no weight is −128, so that two products (at most 2·128·127) fit int16.
    """

    def pack(weights: Array) -> Array:
        halves = np.stack([weights[..., 0:2], weights[..., 2:4]], axis=-3)
        return halves.reshape(*halves.shape[:-2], -1)

    def spread(four: Expr) -> tuple[Expr, ...]:
        low = four.astype("int16")
        high = (four >> T.int32(16)).astype("int16")
        return tuple(T.reinterpret("int8x8", T.broadcast(pair, 4)) for pair in (low, high))

    def interleave(x: Sequence[Expr]) -> list[tuple[Expr, ...]]:
        pairs = [_zipped(x[i], x[i + 1], 16, 1) for i in (0, 2)]
        parts = [[shuffle([v], range(n, n + 8)) for v in both for n in (0, 8)] for both in pairs]
        return list(zip(*parts, strict=True))

    def add(total: Expr, x: tuple[Expr, ...], w: Sequence[Expr]) -> Expr:
        products = [
            intrinsic("int16x8", "llvm.aarch64.neon.smull.v8i16", values, half)
            for values, half in zip(x, w, strict=True)
        ]
        for product in [products[0] + products[1]] if pairs_fit else products:
            pairs = intrinsic("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", product)
            total = total + pairs
        return total

    return Dot(4, "int8", 2, pack, spread, interleave, add)


_VNNI512 = _whole(16, "llvm.x86.avx512.vpdpbusd.512", "uint8")
_VNNI256 = _whole(8, "llvm.x86.avx512.vpdpbusd.256", "uint8")
_SDOT = _whole(4, "llvm.aarch64.neon.sdot.v4i32.v16i8", "int8")
_MADD256 = _madd256()
