"""The promise behind the planner: an output `lead_bytes` below its input never spoils what is
unread.

Every operator's cases run with each output as close to one of its inputs as its kernel allows, on
this machine and in the emulators of the tuned targets, and must stay bit-exact.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.emit import Program
from tinsmith.ir.dtypes import DType
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run
from tinsmith.kernels.kernel import KernelCall
from tinsmith.kernels.select import select_kernels
from tinsmith.machine.board import load_board
from tinsmith.machine.target import Target, load_target
from tinsmith.ops import registry
from tinsmith.plan.check import check_plan
from tinsmith.plan.model import MemoryPlan

from .cases import case_inputs, cases_of, op_graph
from .firmware import run_jobs as run_on_board
from .host_c import FLOAT_TOLERANCE, Job, run_jobs

SEEDS = (0, 1)
POSITIONS = (0, 1)


def tight_plan(
    graph: Graph, calls: list[KernelCall], alignment: int, position: int
) -> tuple[MemoryPlan, int]:
    """Every node has memory of its own, but its output is a lead below activation input `position`.

    Returns the number of nodes that overlap, too. A value that an earlier node placed stays there.
    """
    offsets: dict[Value, int] = {}
    scratch: dict[str, int] = {}
    top = overlapping = 0

    def up(size: int) -> int:
        return -(-size // alignment) * alignment

    def place(size: int) -> int:
        nonlocal top
        at, top = top, top + up(size)
        return at

    by_name = {c.node.name: c for c in calls}
    for node in graph.nodes:
        call = by_name.get(node.name)
        if call is None:  # a view
            offsets.setdefault(node.inputs[0], -1)
            if offsets[node.inputs[0]] < 0:
                offsets[node.inputs[0]] = place(node.inputs[0].type.bytes)
            offsets[node.outputs[0]] = offsets[node.inputs[0]]
            continue
        indices = [i for i, v in enumerate(node.inputs) if not graph.is_constant(v)]
        index = indices[min(position, len(indices) - 1)]
        x, y = node.inputs[index], node.outputs[0]
        lead = call.kernel.lead_bytes(node, index)
        alone = x not in offsets and node.inputs.count(x) == 1 and len(node.outputs) == 1
        if lead is not None and alone and len(graph.consumers[x]) == 1:
            distance = up(lead)
            offsets[y] = top + max(0, -distance)
            offsets[x] = top + max(0, distance)
            top = up(max(offsets[y] + y.type.bytes, offsets[x] + x.type.bytes))
            overlapping += distance < y.type.bytes and -distance < x.type.bytes
        for value in (*graph.activations(node), *node.outputs):
            if value not in offsets:
                offsets[value] = place(value.type.bytes)
        if call.scratch_bytes:
            scratch[node.name] = place(call.scratch_bytes)
    order = tuple(n.name for n in graph.nodes)
    views = frozenset(n.name for n in graph.nodes if n.name not in by_name)
    plan = MemoryPlan(offsets, scratch, top, 0, alignment, order, False, order[0], in_place=views)
    return plan, overlapping


def tight_jobs(target: Target, dtype: DType) -> tuple[list[Job], int]:
    """A job per operator and position; the number of nodes that overlap in them."""
    jobs: list[Job] = []
    total = 0
    for op in registry().values():
        if not cases_of(op, dtype) or op.name in ("quantize", "dequantize"):
            continue
        graph = op_graph(op, dtype)
        calls = select_kernels(graph, target)
        for position in POSITIONS:
            if position and all(len(graph.activations(n)) == 1 for n in graph.nodes):
                continue
            plan, overlapping = tight_plan(graph, calls, target.arena_alignment, position)
            check_plan(graph, calls, plan)
            named = replace(graph, name=f"{op.name}_{position}")
            samples = [case_inputs(graph, seed) for seed in SEEDS]
            jobs.append(Job(Program(named, calls, plan, samples[0]), samples))
            total += overlapping
    return jobs, total


def compare(jobs: list[Job], rows: list, dtype: DType) -> None:
    wrong: list[str] = []
    for job, outputs in zip(jobs, rows, strict=True):
        for sample, row in zip(job.samples, outputs, strict=True):
            oracle = run(job.program.graph, sample)
            for value, want, got in zip(job.program.graph.outputs, oracle, row, strict=True):
                if dtype is DType.INT8:
                    good = np.array_equal(got, want)
                else:
                    good = np.allclose(got, want, **FLOAT_TOLERANCE)
                if not good:
                    wrong.append(f"{job.program.graph.name}: {value.name}")
    assert not wrong


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32], ids=str)
def test_portable_kernels_keep_their_lead(dtype: DType, tmp_path: Path):
    jobs, overlapping = tight_jobs(load_target("host"), dtype)
    assert overlapping >= 60
    compare(jobs, run_jobs(tmp_path, jobs), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an500", "mps3-an547"])
def test_tuned_kernels_keep_their_lead(name: str, tmp_path: Path):
    board = load_board(name)
    jobs, overlapping = tight_jobs(board.target, DType.INT8)
    assert overlapping >= 60
    compare(jobs, run_on_board(tmp_path, board, jobs), DType.INT8)
