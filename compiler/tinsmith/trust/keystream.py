"""Permutations from a key: HMAC-SHA256 in counter mode, Fisher-Yates without bias.

Block i of a stream is HMAC-SHA256(key, label ‖ 0x00 ‖ i), i as four big-endian bytes; numbers are
its big-endian 32-bit words. For j = n−1 … 1 the shuffle swaps elements j and r, r uniform in 0 … j:
words at or above the largest multiple of j + 1 are drawn again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from .axes import Free

KEY_BYTES = 32


@dataclass(frozen=True)
class Secret:
    """The permutations of one partition. classes: all of them, in the order that numbers them."""

    key: bytes = field(repr=False)
    classes: tuple[Free, ...]

    def order(self, of: Free) -> Array:
        """int64: of a permutation class."""
        return self.permutation(f"channels/{self.classes.index(of)}", of.size)

    def permutation(self, label: str, size: int) -> Array:
        return permutation(self.key, label, size)


def check_key(key: bytes) -> bytes:
    """Raises CompileError for a key of another length."""
    if len(key) != KEY_BYTES:
        raise CompileError(f"the key has {len(key)} bytes", expected=f"{KEY_BYTES} bytes")
    return key


def words(key: bytes, label: str) -> Iterator[int]:
    """The 32-bit numbers of the stream that `label` names."""
    prefix = label.encode() + b"\0"
    for counter in range(2**32):
        block = hmac.new(key, prefix + counter.to_bytes(4, "big"), hashlib.sha256).digest()
        for at in range(0, len(block), 4):
            yield int.from_bytes(block[at : at + 4], "big")


def permutation(key: bytes, label: str, size: int) -> Array:
    """int64 [size], uniform over all permutations; the same for the same key and label."""
    stream = words(key, label)
    order = np.arange(size)
    for j in range(size - 1, 0, -1):
        limit = 2**32 - 2**32 % (j + 1)
        word = next(w for w in stream if w < limit)
        r = word % (j + 1)
        order[j], order[r] = order[r], order[j]
    return order
