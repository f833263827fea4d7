"""How long payloads should be on a line that damages bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .frames import OVERHEAD

SHORTEST = 16
_MEMORY = 0.98  # what an exchange leaves of those before
_OTHER_BYTES = 2 * OVERHEAD + 6  # of an exchange, besides its payload: the frame and its answer


@dataclass
class PayloadSize:
    """Estimates the damage per byte, and from it the payload with the highest throughput.

    An exchange of n bytes, o of them overhead, succeeds with exp(-d·n) where a byte is damaged with
    probability d: (n - o) / n · exp(-d·n) is largest at n = o/2 + sqrt(o²/4 + o/d).
    """

    longest: int
    _damages: float = 0.02
    _bytes: float = 400.0

    def count(self, wire_bytes: int, damages: int) -> None:
        """An exchange took so many bytes, both ways, and so many of its frames were damaged."""
        self._bytes = self._bytes * _MEMORY + wire_bytes
        self._damages = self._damages * _MEMORY + damages

    @property
    def best(self) -> int:
        """Bytes of payload, from 16 to `longest`."""
        damage = max(self._damages / self._bytes, 1e-9)
        half = _OTHER_BYTES / 2
        whole = half + math.sqrt(half**2 + _OTHER_BYTES / damage)
        return max(SHORTEST, min(self.longest, round(whole) - _OTHER_BYTES))
