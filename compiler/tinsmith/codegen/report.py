"""Makes, reads and writes `report.json`: what a compiled project is and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from ..errors import CompileError
from ..ir.dtypes import DType, TensorType
from ..ir.graph import Graph, Node, Value
from ..ir.printer import graph_hash
from ..kernels.aim import Aim, Objective
from ..kernels.kernel import KernelCall
from ..machine.board import Board
from ..plan.model import MemoryPlan
from .program import Program
from .report_model import SCHEMA_VERSION, NodeReport, Place, Port, Report, TrustReport
from .report_text import report_text
from .state import StateBlock

__all__ = [
    "SCHEMA_VERSION",
    "NodeReport",
    "Place",
    "Port",
    "Report",
    "TrustReport",
    "add_training",
    "aim_of",
    "make_report",
    "read_report",
    "report_text",
    "write_report",
]

FILE = "report.json"


def aim_of(report: Report) -> Aim:
    """What the kernels of a project were chosen for, to choose those of its parts alike."""
    return Aim(cast(Objective, report.optimize), pins=report.pinned_kernels)


def make_report(
    program: Program, board: Board, weights_bytes: int = 0, notes: Sequence[str] = ()
) -> Report:
    """What is known of inference before the project is built. weights_bytes: from
    `write_project`."""
    graph, plan = program.graph, program.plan
    return Report(
        model=graph.name,
        c_name=program.c_name,
        model_hash=graph_hash(graph),
        board=board.name,
        target=board.target.name,
        dtype=str(DType.INT8 if _has_int8(graph) else DType.FLOAT32),
        macs=sum(n.op.macs(n) for n in graph.nodes),
        weights_bytes=weights_bytes,
        arena_bytes=plan.arena_bytes,
        arena_lower_bound_bytes=plan.lower_bound_bytes,
        arena_proved_optimal=plan.proved_optimal,
        arena_bound_counts=plan.bound_counts,
        arena_strategy=plan.strategy,
        peak_node=plan.peak_node,
        inputs=_ports(graph.inputs, graph.input_layouts, plan),
        outputs=_ports(graph.outputs, graph.output_layouts, plan),
        nodes=_nodes(graph, program.calls, plan),
        notes=tuple(notes),
    )


def add_training(report: Report, program: Program) -> None:
    """Fill in what is known of the training graph before the project is built."""
    graph, plan = program.graph, program.plan
    report.state_bytes = StateBlock.of(graph).bytes
    report.train_arena_bytes = plan.arena_bytes
    report.train_arena_lower_bound_bytes = plan.lower_bound_bytes
    report.train_arena_proved_optimal = plan.proved_optimal
    report.train_arena_bound_counts = plan.bound_counts
    report.train_arena_strategy = plan.strategy
    report.train_peak_node = plan.peak_node
    report.train_macs = sum(n.op.macs(n) for n in graph.nodes)
    report.train_inputs = _ports(graph.inputs[:-1], graph.input_layouts[:-1], plan)
    report.train_nodes = _nodes(graph, program.calls, plan)


def write_report(folder: Path, report: Report) -> None:
    """report.json, and report.txt for people."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (folder / FILE).write_bytes(text + b"\n")
    (folder / "report.txt").write_text(report_text(report))


def read_report(folder: Path) -> Report:
    """Raises CompileError when the folder holds no readable report."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except FileNotFoundError:
        raise CompileError(
            f"{folder} is not a compiled project",
            expected=f"a folder with {FILE}",
            hint="make one with `tinsmith compile MODEL.onnx --board BOARD -o DIR`",
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise CompileError(f"{path} cannot be read: {error}") from error


def _nodes(graph: Graph, calls: Sequence[KernelCall], plan: MemoryPlan) -> tuple[NodeReport, ...]:
    by_node = {call.node.name: call for call in calls}
    return tuple(_node(i, n, by_node.get(n.name), graph, plan) for i, n in enumerate(graph.nodes))


def _node(
    index: int, node: Node, call: KernelCall | None, graph: Graph, plan: MemoryPlan
) -> NodeReport:
    runs = call if node.name not in plan.in_place else None
    return NodeReport(
        index=index,
        name=node.name,
        op=node.op.name,
        onnx_name=node.origin.onnx_name,
        onnx_op=node.origin.onnx_op,
        kernel=runs.kernel.name if runs else "",
        macs=node.op.macs(node),
        bytes=sum(c.array.nbytes for c in runs.constants.values()) if runs else 0,
        inputs=tuple(_place(v, plan) for v in graph.activations(node)),
        outputs=tuple(_place(v, plan) for v in graph.results(node)),
        scratch_bytes=runs.scratch_bytes if runs else 0,
        scratch_offset=plan.scratch.get(node.name),
    )


def _place(value: Value, plan: MemoryPlan) -> Place:
    t = value.type
    return Place(value.name, t.shape, str(t.dtype), plan.offsets[value], t.bytes)


def _ports(
    values: Sequence[Value], layouts: Sequence[tuple[int, ...] | None], plan: MemoryPlan
) -> tuple[Port, ...]:
    return tuple(
        _port(v, layouts[i] if i < len(layouts) else None, plan) for i, v in enumerate(values)
    )


def _port(value: Value, layout: tuple[int, ...] | None, plan: MemoryPlan) -> Port:
    type_: TensorType = value.type
    onnx_shape = list(type_.shape)
    for here, there in enumerate(layout or ()):
        onnx_shape[there] = type_.shape[here]
    return Port(
        name=value.name,
        shape=type_.shape,
        onnx_shape=tuple(onnx_shape),
        layout=layout,
        dtype=str(type_.dtype),
        bytes=type_.bytes,
        offset=plan.offsets[value],
        scale=type_.scale if type_.quant else None,
        zero_point=type_.zero_point if type_.quant else None,
    )


def _has_int8(graph: Graph) -> bool:
    return any(v.type.dtype is DType.INT8 for v in graph.values)
