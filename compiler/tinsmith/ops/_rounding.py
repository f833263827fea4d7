"""The update rules of int8 weights: `step` in units of the weight's last place, float32.

residual8   v = 256·w + r, r the residual byte;  v ← sat16(v − rint(256·step));
            w' = clamp((v + 128) >> 8, −127, 127);  r' = saturate8(v − 256·w')
residual4   the same with 16 instead of 256 and r in −8…7, two to a byte, the first in the low bits
stochastic  w' = clamp(w − ⌊step + u⌋, −127, 127), u uniform in [0, 1) from xorshift32
nearest     w' = clamp(w − rint(step), −127, 127)

A float is clamped before it becomes an integer, so that no step, however large, wraps; what is not
a number moves nothing.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ..ir.dtypes import Array

W_MAX = 127

_STEP_LIMIT = np.float32(65536)  # beyond every range that a rule has
_BLOCK = 32


def bounded(whole: Array, limit: np.float32) -> Array:
    """Whole float32 numbers as int64 within ±limit; 0 for what is not a number."""
    clipped = np.clip(whole, -limit, limit)
    return np.where(np.isnan(clipped), np.float32(0), clipped).astype(np.int64)


def with_residual(w: Array, r: Array, step: Array, bits: int) -> tuple[Array, Array]:
    """(w', r') of int64 arrays; bits: 8 or 4."""
    one = 1 << bits
    moved = bounded(np.rint(step * np.float32(one)), _STEP_LIMIT)
    v = np.clip(w * one + r - moved, -(128 * one), 128 * one - 1)
    new = np.clip((v + (one >> 1)) >> bits, -W_MAX, W_MAX)
    return new, np.clip(v - new * one, -(one >> 1), (one >> 1) - 1)


def stochastic(w: Array, step: Array, uniform: Array) -> Array:
    """w' of int64 weights; uniform: float32 in [0, 1)."""
    return np.clip(w - bounded(np.floor(step + uniform), _STEP_LIMIT), -W_MAX, W_MAX)


def nearest(w: Array, step: Array) -> Array:
    return np.clip(w - bounded(np.rint(step), _STEP_LIMIT), -W_MAX, W_MAX)


def pack_nibbles(r: Array) -> Array:
    """int64 in −8…7 → uint8[⌈n/2⌉], the first in the low bits."""
    flat = (r.reshape(-1) & 15).astype(np.uint8)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return flat[::2] | (flat[1::2] << np.uint8(4))


def unpack_nibbles(packed: Array, shape: tuple[int, ...]) -> Array:
    """The inverse, int64 of `shape`."""
    both = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1).astype(np.int64)
    return (((both + 8) & 15) - 8)[: int(np.prod(shape))].reshape(shape)


def xorshift32(state: int, count: int) -> tuple[Array, int]:
    """The next `count` states of x ^= x << 13; x ^= x >> 17; x ^= x << 5, and the last one.

    The generator is linear over bits, so blocks are jumped ahead by table.
    """
    states = np.empty(max(1, -(-count // _BLOCK)) * _BLOCK, np.uint32)
    x = state & 0xFFFFFFFF
    for i in range(min(_BLOCK, states.size)):
        x = _next(x)
        states[i] = x
    made, level = _BLOCK, 0
    while made < states.size:
        take = min(made, states.size - made)
        states[made : made + take] = _jump(states[:take], level)
        made, level = made + take, level + 1
    return states[:count], int(states[count - 1]) if count else state


def uniform24(states: Array) -> Array:
    """The upper 24 bits as float32 in [0, 1)."""
    return (states >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def _next(x: int) -> int:
    x ^= (x << 13) & 0xFFFFFFFF
    x ^= x >> 17
    return x ^ ((x << 5) & 0xFFFFFFFF)


@cache
def _tables(level: int) -> Array:
    """uint32[4,256]: what each byte of a state contributes to the state 32·2^level steps on."""
    if level:
        columns = [1 << b for b in range(32)]
        half = np.array(columns, np.uint32)
        basis = _jump(_jump(half, level - 1), level - 1)
    else:
        values = [1 << b for b in range(32)]
        for _ in range(_BLOCK):
            values = [_next(v) for v in values]
        basis = np.array(values, np.uint32)
    tables = np.zeros((4, 256), np.uint32)
    for byte in range(4):
        for value in range(256):
            bits = [b for b in range(8) if value >> b & 1]
            tables[byte, value] = np.bitwise_xor.reduce(basis[[8 * byte + b for b in bits]])
    return tables


def _jump(states: Array, level: int) -> Array:
    tables = _tables(level)
    result = tables[0, states & 255]
    for byte in (1, 2, 3):
        result = result ^ tables[byte, (states >> np.uint32(8 * byte)) & 255]
    return result
