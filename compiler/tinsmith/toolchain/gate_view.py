"""What the generated binding of the gateway knows of a secure graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..codegen.c_text import c_model_name
from ..codegen.state import StateBlock
from ..errors import InternalError
from ..ir.graph import Graph, Value

PAD = "pad"  # the input that the secure runtime draws; never the caller's
MAX_INPUTS = 3  # TS_GATEWAY_INPUTS
CODE_BYTES = 32  # TS_SEALEDCODE_BYTES
# Of a call: a model's inference, the second half of its training step, or what moves its state.
Role = Literal["forward", "backward", "sealed", "unsealed"]


@dataclass(frozen=True)
class GatePort:
    """position: among the graph's inputs or outputs. alignment: bytes of an element."""

    position: int
    bytes: int
    alignment: int

    @staticmethod
    def of(position: int, value: Value) -> GatePort:
        return GatePort(position, value.type.bytes, value.type.dtype.bytes)


@dataclass(frozen=True)
class KeptPort:
    """What the first call of a training step keeps for the second. index: of a model's outputs or
    training inputs. offset: in the memory that is kept."""

    index: int
    offset: int
    bytes: int


@dataclass(frozen=True)
class GateView:
    """name: the C name. inputs: the caller's, in order. pad: None without.

    Of an image whose bridge gradients cross: kept, by the first call for the second; role: what it
    does; takes_rate: its last input is the learning rate.
    """

    name: str
    inputs: tuple[GatePort, ...]
    output: GatePort
    pad: GatePort | None
    kept: tuple[KeptPort, ...] = ()
    role: Role = "forward"
    takes_rate: bool = False
    trainable: bool = False

    @property
    def macro(self) -> str:
        return self.name.upper()

    @property
    def label(self) -> str:
        """Unique among the gates of an image: both calls of a training step are of one model."""
        return self.name if self.is_model else f"{self.name}_{self.role}"

    @property
    def is_model(self) -> bool:
        """Whether it is a model's inference; the others are of the model before them."""
        return self.role == "forward"

    @property
    def kept_bytes(self) -> int:
        return max((k.offset + _aligned(k.bytes) for k in self.kept), default=0)

    @staticmethod
    def of(graph: Graph, *, trainable: bool = False) -> GateView:
        """trainable: the first call of two that training steps make.

        Raises InternalError for a graph that a gateway cannot call.
        """
        ports = [(value.name, GatePort.of(i, value)) for i, value in enumerate(graph.inputs)]
        given = tuple(port for name, port in ports if name != PAD)
        pads = [port for name, port in ports if name == PAD]
        keeps = trainable or len(graph.outputs) == 1
        if not keeps or not 1 <= len(given) <= MAX_INPUTS:
            raise InternalError(
                f"{graph.name} has {len(given)} inputs and {len(graph.outputs)} outputs",
                expected=f"1 to {MAX_INPUTS} inputs and 1 output",
            )
        output = GatePort.of(0, graph.outputs[0])
        return GateView(
            c_model_name(graph.name),
            given,
            output,
            pads[0] if pads else None,
            _kept(1, graph.outputs[1:]),
            trainable=trainable,
        )

    @staticmethod
    def backward(forward: Graph, graph: Graph) -> GateView:
        """The second call of a training step: the training graph of `forward`'s model."""
        dy, *kept, rate = graph.inputs
        takes_rate = any(rate in n.inputs for n in graph.nodes)
        inputs = [GatePort.of(0, dy), *([GatePort.of(1, rate)] if takes_rate else [])]
        return GateView(
            c_model_name(forward.name),
            tuple(inputs),
            GatePort.of(0, graph.outputs[0]),
            None,
            _kept(1, kept),
            role="backward",
            takes_rate=takes_rate,
        )


def gate_views(graphs: Sequence[Graph], backward: Graph | None) -> list[GateView]:
    """One per call. backward: of the only graph there is then."""
    if backward is None:
        return [GateView.of(graph) for graph in graphs]
    (forward,) = graphs
    both = [GateView.of(forward, trainable=True), GateView.backward(forward, backward)]
    size = sealed_bytes(backward)
    if not size:
        return both
    name, blob, word = both[0].name, GatePort(0, size, 4), GatePort(0, 4, 4)
    sealed = GateView(name, (), blob, None, role="sealed")
    return [*both, sealed, GateView(name, (blob,), word, None, role="unsealed")]


def sealed_bytes(backward: Graph | None) -> int:
    """What secure layers have learnt, with its code (runtime_c/secure/sealed.h); 0: nothing."""
    if backward is None or not backward.updates:
        return 0
    return CODE_BYTES + StateBlock.of(backward).stored_bytes


def memory_bytes(gates: Sequence[GateView]) -> int:
    """What lives from one call to the next: a pad, or what was kept."""
    pads = max((gate.pad.bytes for gate in gates if gate.pad), default=0)
    return max([pads, *(gate.kept_bytes for gate in gates)])


def _kept(first: int, values: Sequence[Value]) -> tuple[KeptPort, ...]:
    ports: list[KeptPort] = []
    offset = 0
    for i, value in enumerate(values, first):
        ports.append(KeptPort(i, offset, value.type.bytes))
        offset += _aligned(value.type.bytes)
    return tuple(ports)


def _aligned(count: int) -> int:
    return -(-count // 4) * 4
