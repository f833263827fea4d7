"""The block of RAM that holds what a model learns: where every state lies in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..ir.graph import Graph, Value
from .c_text import c_pointer

ALIGNMENT = 4
_SLACK = 4  # tuned kernels read a row's last bytes as a whole word


@dataclass(frozen=True)
class StateBlock:
    """offsets: bytes from the start of the block, multiples of ALIGNMENT, in the order of the
    graph's updates; state of the moment comes last. bytes: of the whole block, a multiple of
    ALIGNMENT. stored_bytes: of its beginning, which stores and deltas hold."""

    offsets: Mapping[Value, int] = field(default_factory=dict[Value, int])
    bytes: int = 0
    stored_bytes: int = 0

    @staticmethod
    def of(graph: Graph) -> StateBlock:
        offsets: dict[Value, int] = {}
        top = stored = 0
        for value in sorted(graph.state, key=graph.transient.__contains__):
            offsets[value] = top
            top += -(-value.type.bytes // ALIGNMENT) * ALIGNMENT
            stored = stored if value in graph.transient else top
        return StateBlock(offsets, top + _SLACK, stored if graph.transient else top + _SLACK)

    def pointer(self, state: Value, *, const: bool) -> str:
        """C: where a state lies, `state` being the block."""
        return c_pointer("state", self.offsets[state], state.type.dtype, const=const)


def sealed_state(training: Graph) -> Value | None:
    """What of a training graph's state is a sealed copy of what the secure world has learnt: no
    node reads it, and no step changes it."""
    own = (old for old, new in training.updates if old == new)
    return next((v for v in own if v not in training.consumers), None)


def stored_start(training: Graph) -> bytes:
    """What stores and deltas hold of the state at compile time, as the device has it: the base of
    its deltas. Of a training graph as it is compiled; a sealed copy is all zeros."""
    block = StateBlock.of(training)
    packed = bytearray(block.stored_bytes)
    for value, offset in block.offsets.items():
        if value not in training.transient:
            raw = training.initializers[value].tobytes()
            packed[offset : offset + len(raw)] = raw
    return bytes(packed)
