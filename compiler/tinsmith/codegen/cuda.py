"""A planned graph whose kernels run on a GPU → the tables of its host code.

What `runtime_c/cuda/ts_cuda.c` does with them: one launch per node, on pointers into the arena and
the weights on the device. Inputs and outputs have a place of their own in the caller's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import InternalError
from ..ir.graph import Graph, Value
from ..kernels.kernel import KernelCall
from ..tvm_backend.cuda.launch import Launch
from ..tvm_backend.cuda.rule import buffer_names, state_names
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
from .state import StateBlock
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


def cuda_view(program: Program, weights: Weights, state: StateBlock) -> CudaView:
    """Everything about the GPU; the constants are added to `weights`. state: lies in the arena on
    the device, behind the activations."""
    graph, plan, library = program.graph, program.plan, program.cuda
    assert library is not None
    calls = {call.node.name: call for call in program.calls}
    symbols = _symbols(program)
    if program.train is not None:
        _symbols(program.train)
    code = library.code()
    tables = _Tables()
    places = _places(program, state)
    for index, node in enumerate(graph.nodes):
        symbol = symbols.get(node.name)
        if symbol is not None:
            pointers = _pointers(calls[node.name], program, weights, tables, places)
            for launch in code.launches[symbol]:
                comment = list(comment_lines(index, node, launch.kernel, program))
                tables.add(launch, pointers, c_comment_block(comment, INDENT))
        elif node.name in calls and node.name not in plan.in_place:
            raise InternalError(f"no launch was made for {node.name}", node=str(node.origin))
        tables.traces += _traces(index, program, len(tables.launches), places)
    inputs, outputs = _copies(graph, program)
    last = [*inputs, *outputs][-1]
    kept: CopyView | None = None
    if graph.updates:
        start = _state_start(program)
        kept = last = CopyView(_behind(last, plan.alignment), start, state.bytes)
        inputs = (*inputs, kept)
        outputs = (*outputs, kept) if program.train is None else outputs
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
        plan.arena_bytes if kept is None else kept.device_offset + kept.bytes,
        max(tables.weights_bytes, _ALIGNMENT),
        _behind(last, plan.alignment),
        kept,
    )


def _symbols(program: Program) -> Mapping[str, str]:
    """The function of each node that is launched."""
    graph, library = program.graph, program.cuda
    assert library is not None
    called = {call.node.name for call in program.calls} - set(program.plan.in_place)
    return {n.name: library.symbol(n, graph) for n in graph.nodes if n.name in called}


def _state_start(program: Program) -> int:
    """Where the state lies in the arena on the device."""
    return -(-program.plan.arena_bytes // _ALIGNMENT) * _ALIGNMENT


def _places(program: Program, state: StateBlock) -> Mapping[Value, int]:
    """Offsets in the arena on the device, of activations and of every version of a state."""
    start = _state_start(program)
    kept = {v: start + state.offsets[old] for v, old in program.graph.storage.items()}
    return {**program.plan.offsets, **kept}


def _behind(copy: CopyView, alignment: int) -> int:
    """Where the next one begins in the caller's memory."""
    return -(-(copy.host_offset + copy.bytes) // alignment) * alignment


def capability(arch: str) -> tuple[int, int]:
    """ "sm_89" → (8, 9)."""
    number = int(arch.removeprefix("sm_"))
    return number // 10, number % 10


def host_ports(ports: Sequence[PortView], copies: Sequence[CopyView]) -> list[PortView]:
    """The ports as the caller sees them, in its own memory; the state comes after them."""
    return [
        replace(p, offset=c.host_offset) for p, c in zip(ports, copies[: len(ports)], strict=True)
    ]


def host_copies(view: CudaView, graph: Graph) -> tuple[CopyView, ...]:
    """One per graph input and output, without that of the state."""
    return (*view.inputs[: len(graph.inputs)], *view.outputs[: len(graph.outputs)])


def _pointers(
    call: KernelCall,
    program: Program,
    weights: Weights,
    tables: _Tables,
    places: Mapping[Value, int],
) -> Mapping[str, ArgumentView]:
    """The bytes behind each buffer of a node's function."""
    node, graph = call.node, program.graph
    named = (*buffer_names(node, graph), *state_names(node, graph))
    found = {name: ArgumentView("ARENA", places[value]) for name, value in named}
    for name, array in weights.add(call).items():
        offset = tables.place(array, call.constants[name].array.nbytes)
        found[name] = ArgumentView("WEIGHTS", offset)
    return found


def _traces(
    index: int, program: Program, launches: int, places: Mapping[Value, int]
) -> Iterator[CudaTraceView]:
    for value in program.graph.nodes[index].outputs:
        yield CudaTraceView(index, launches, places[value], value.type.bytes)


def _copies(graph: Graph, program: Program) -> tuple[tuple[CopyView, ...], tuple[CopyView, ...]]:
    """Inputs and outputs, one after the other in the caller's memory."""
    alignment, at = program.plan.alignment, 0
    copies: list[CopyView] = []
    for value in (*graph.inputs, *graph.outputs):
        copies.append(CopyView(at, program.plan.offsets[value], value.type.bytes))
        at += -(-value.type.bytes // alignment) * alignment
    return tuple(copies[: len(graph.inputs)]), tuple(copies[len(graph.inputs) :])
