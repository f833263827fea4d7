"""What the generated binding of the gateway knows of a secure graph."""

from __future__ import annotations

from dataclasses import dataclass

from ..codegen.c_text import c_model_name
from ..errors import InternalError
from ..ir.graph import Graph, Value

PAD = "pad"  # the input that the secure runtime draws; never the caller's
MAX_INPUTS = 3  # TS_GATEWAY_INPUTS


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
class GateView:
    """name: the C name. inputs: the caller's, in order. pad: None without."""

    name: str
    inputs: tuple[GatePort, ...]
    output: GatePort
    pad: GatePort | None

    @property
    def macro(self) -> str:
        return self.name.upper()

    @staticmethod
    def of(graph: Graph) -> GateView:
        """Raises InternalError for a graph that a gateway cannot call."""
        ports = [(value.name, GatePort.of(i, value)) for i, value in enumerate(graph.inputs)]
        given = tuple(port for name, port in ports if name != PAD)
        pads = [port for name, port in ports if name == PAD]
        if len(graph.outputs) != 1 or not 1 <= len(given) <= MAX_INPUTS:
            raise InternalError(
                f"{graph.name} has {len(given)} inputs and {len(graph.outputs)} outputs",
                expected=f"1 to {MAX_INPUTS} inputs and 1 output",
            )
        output = GatePort.of(0, graph.outputs[0])
        return GateView(c_model_name(graph.name), given, output, pads[0] if pads else None)
