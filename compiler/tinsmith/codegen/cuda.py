"""A planned graph whose kernels run on a GPU → the tables of its host code.

What `runtime_c/cuda/ts_cuda.c` does with them: one launch per node, on pointers into the arena and
the weights on the device. Inputs and outputs have a place of their own in the caller's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import InternalError
from ..ir.graph import Graph
from ..kernels.kernel import KernelCall
from ..tvm_backend.cuda.launch import Launch
from ..tvm_backend.cuda.rule import buffer_names
from .c_text import INDENT, c_comment_block
from .cuda_views import (
    ArgumentView,
    ConstantView,
    CopyView,
    CudaTraceView,
    CudaView,
    LaunchView,
)
from .entry import comment_lines
from .program import Program
from .views import PortView
from .weights import Weights

_ALIGNMENT = 256  # of arrays on the device, as its allocator gives


@dataclass
class _Tables:
    """The tables while they grow. places: offset on the device of each array of the weights."""

    launches: list[LaunchView] = field(default_factory=list[LaunchView])
    arguments: list[ArgumentView] = field(default_factory=list[ArgumentView])
    kernels: list[str] = field(default_factory=list[str])
    traces: list[CudaTraceView] = field(default_factory=list[CudaTraceView])
    places: dict[str, ConstantView] = field(default_factory=dict[str, ConstantView])
    weights_bytes: int = 0

    def place(self, name: str, size: int) -> int:
        """Offset of the array `name`, which gets one when it has none."""
        if name not in self.places:
            self.places[name] = ConstantView(name, size, self.weights_bytes)
            self.weights_bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        return self.places[name].offset

    def add(self, launch: Launch, pointers: Mapping[str, ArgumentView], comment: str) -> None:
        """A launch, with its arguments."""
        if launch.kernel not in self.kernels:
            self.kernels.append(launch.kernel)
        kernel, first = self.kernels.index(launch.kernel), len(self.arguments)
        self.arguments += [pointers[name] for name in launch.parameters]
        count = len(launch.parameters)
        self.launches.append(LaunchView(comment, kernel, first, count, launch.grid, launch.block))


def cuda_view(program: Program, weights: Weights) -> CudaView:
    """Everything about the GPU; the constants are added to `weights`."""
    graph, plan, library = program.graph, program.plan, program.cuda
    assert library is not None
    calls = {call.node.name: call for call in program.calls}
    symbols = {
        n.name: library.symbol(n, graph)
        for n in graph.nodes
        if n.name in calls and n.name not in plan.in_place
    }
    code = library.code()
    tables = _Tables()
    for index, node in enumerate(graph.nodes):
        symbol = symbols.get(node.name)
        if symbol is not None:
            pointers = _pointers(calls[node.name], program, weights, tables)
            for launch in code.launches[symbol]:
                comment = list(comment_lines(index, node, launch.kernel, program))
                tables.add(launch, pointers, c_comment_block(comment, INDENT))
        elif node.name in calls and node.name not in plan.in_place:
            raise InternalError(f"no launch was made for {node.name}", node=str(node.origin))
        tables.traces += _traces(index, program, len(tables.launches))
    inputs, outputs = _copies(graph, program)
    last = [*inputs, *outputs][-1]
    return CudaView(
        code.source,
        library.arch,
        capability(library.arch),
        tuple(tables.kernels),
        tuple(tables.launches),
        tuple(tables.arguments),
        tuple(tables.places.values()),
        inputs,
        outputs,
        tuple(tables.traces),
        plan.arena_bytes,
        max(tables.weights_bytes, _ALIGNMENT),
        -(-(last.host_offset + last.bytes) // plan.alignment) * plan.alignment,
    )


def capability(arch: str) -> tuple[int, int]:
    """ "sm_89" → (8, 9)."""
    number = int(arch.removeprefix("sm_"))
    return number // 10, number % 10


def host_ports(ports: Sequence[PortView], copies: Sequence[CopyView]) -> list[PortView]:
    """The ports as the caller sees them, in its own memory."""
    return [replace(p, offset=c.host_offset) for p, c in zip(ports, copies, strict=True)]


def _pointers(
    call: KernelCall, program: Program, weights: Weights, tables: _Tables
) -> Mapping[str, ArgumentView]:
    """The bytes behind each buffer of a node's function."""
    found = {
        name: ArgumentView("ARENA", program.plan.offsets[value])
        for name, value in buffer_names(call.node, program.graph)
    }
    for name, array in weights.add(call).items():
        offset = tables.place(array, call.constants[name].array.nbytes)
        found[name] = ArgumentView("WEIGHTS", offset)
    return found


def _traces(index: int, program: Program, launches: int) -> Iterator[CudaTraceView]:
    node, offsets = program.graph.nodes[index], program.plan.offsets
    for value in node.outputs:
        yield CudaTraceView(index, launches, offsets[value], value.type.bytes)


def _copies(graph: Graph, program: Program) -> tuple[tuple[CopyView, ...], tuple[CopyView, ...]]:
    """Inputs and outputs, one after the other in the caller's memory."""
    alignment, at = program.plan.alignment, 0
    copies: list[CopyView] = []
    for value in (*graph.inputs, *graph.outputs):
        copies.append(CopyView(at, program.plan.offsets[value], value.type.bytes))
        at += -(-value.type.bytes // alignment) * alignment
    return tuple(copies[: len(graph.inputs)]), tuple(copies[len(graph.inputs) :])
