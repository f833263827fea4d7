"""What a secure image knows of the updates of the model that learns beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..codegen.state import StateBlock
from ..codegen.training import base_hash
from ..ir.graph import Graph

# Sources of a secure image whose model learns; others have none of them.
SOURCES = (
    "hmac.c", "hmac.h", "update.c", "update.h", "update_gateway.c", "update_binding.c.j2",
)  # fmt: skip


@dataclass(frozen=True)
class UpdateView:
    """key: 32 bytes, the device's for updates. base_hash: what its stores and deltas are bound to,
    in hexadecimal. stored_bytes: of the state, what they hold."""

    key: bytes = field(repr=False)  # a key is in no log
    base_hash: str
    stored_bytes: int

    @property
    def update_key(self) -> str:
        """The key in hexadecimal."""
        return self.key.hex()

    @property
    def delta_bytes(self) -> int:
        """The most that a delta takes: TS_DELTA_MAX_BYTES."""
        return self.stored_bytes + self.stored_bytes // 64 + 64

    @staticmethod
    def of(train: Graph, key: bytes) -> UpdateView:
        """train: the training graph of the non-secure image."""
        return UpdateView(key, base_hash(train), StateBlock.of(train).stored_bytes)
