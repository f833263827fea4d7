"""What a kernel costs on a layer: executed in the board's emulator, many layers in one firmware."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..codegen.emit import random_sample
from ..codegen.program import Program
from ..codegen.project import write_project
from ..codegen.report import make_report, write_report
from ..errors import CompileError
from ..ir.graph import Graph, Node, Stage, Value
from ..kernels.kernel import Kernel, KernelCall
from ..machine.board import Board, emulated
from ..machine.costs import Cost
from ..plan.arena import plan_arena
from ..toolchain.compile_c import build
from ..toolchain.harness import ModelBinding, write_harness
from .histogram import Executed, executed
from .project import Project
from .protocol import Sample

LAYERS_AT_ONCE = 48
_ARENA_BYTES = 1 << 20  # of one firmware: what is more goes into the next
_CONSTANT_BYTES = 3 << 20


@dataclass(frozen=True)
class Job:
    """One kernel on one node of a QUANTIZED, lowered graph."""

    node: Node
    graph: Graph
    kernel: Kernel


def can_measure(board: Board) -> bool:
    """Whether the board, or its twin, has an emulator that counts addresses."""
    machine = emulated(board)
    counted = machine.target.elf in ("arm", "riscv") and bool(machine.emulator)
    return counted and "qemu-system" in machine.emulator[0]


def measure_kernels(
    jobs: Sequence[Job], board: Board, progress: Callable[[str], None] = lambda step: None
) -> list[Cost]:
    """What each job costs, in order; bytes of code are of what was executed.

    Raises CompileError for a board that cannot be measured here, MissingTool.
    """
    found = execute_kernels(jobs, board, progress)
    return [Cost(float(e.instructions), e.cycles, e.code_bytes) for e in found]


def execute_kernels(
    jobs: Sequence[Job], board: Board, progress: Callable[[str], None] = lambda step: None
) -> list[Executed]:
    """What each job executes, in order, by function. Raises as `measure_kernels`."""
    if not can_measure(board):
        raise CompileError(f"the emulator of board {board.name} does not count addresses")
    found: list[Executed] = []
    for part in _portions(jobs):
        progress(f"{len(found)} of {len(jobs)} measured")
        found += _executed(part, board)
    return found


def _portions(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    part: list[Job] = []
    used = stored = 0
    for job in jobs:
        node = job.node
        size = job.kernel.scratch_bytes(node, job.graph)
        size += sum(v.type.bytes for v in (*node.inputs[:1], *node.outputs))
        constants = sum(c.array.nbytes for c in job.kernel.constants(node, job.graph).values())
        full = used + size > _ARENA_BYTES or stored + constants > _CONSTANT_BYTES
        if part and (len(part) == LAYERS_AT_ONCE or full):
            yield part
            part, used, stored = [], 0, 0
        part.append(job)
        used += size
        stored += constants
    if part:
        yield part


def _executed(jobs: Sequence[Job], board: Board) -> list[Executed]:
    program = _side_by_side(jobs, board)
    graph = program.graph
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        folder = Path(temporary)
        weights_bytes = write_project(folder, program)
        write_report(folder, make_report(program, board, weights_bytes))
        write_harness(folder, board, [ModelBinding.of(graph, None)])
        build(folder, board, trace=True)
        project = Project(folder, graph, board)
        sample = Sample(tuple(np.asarray(a) for a in random_sample(graph)))
        return executed(project, project.elf(trace=True), sample)


def _side_by_side(jobs: Sequence[Job], board: Board) -> Program:
    """Every job as a layer of its own between an input and an output of one model."""
    nodes: list[Node] = []
    inputs: list[Value] = []
    constants: dict[Value, np.ndarray] = {}
    for index, job in enumerate(jobs):
        moved = {v: replace(v, name=f"n{index}.{v.name}") for v in job.node.inputs}
        made = tuple(replace(v, name=f"n{index}.{v.name}") for v in job.node.outputs)
        nodes.append(
            replace(job.node, inputs=tuple(moved[v] for v in job.node.inputs), outputs=made)
        )
        inputs += [moved[v] for v in dict.fromkeys(job.graph.activations(job.node))]
        constants |= {
            moved[v]: job.graph.constant(v) for v in job.node.inputs if job.graph.is_constant(v)
        }
    outputs = tuple(v for n in nodes for v in n.outputs)
    graph = Graph("measured", tuple(inputs), outputs, constants, tuple(nodes), Stage.SCHEDULED)
    calls = [
        KernelCall(n, j.kernel, j.kernel.constants(n, graph), j.kernel.scratch_bytes(n, graph))
        for n, j in zip(nodes, jobs, strict=True)
    ]
    plan = plan_arena(graph, calls, board.target.arena_alignment, None, enough=1 << 30)
    return Program(replace(graph, stage=Stage.PLANNED), calls, plan)
