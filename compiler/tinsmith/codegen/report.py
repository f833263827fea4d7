"""`report.json`: what a compiled project is and what it costs.

The compiler fills the facts it knows; the toolchain adds sizes read from the linked ELF, the runner
what it measured. `None` means: not measured yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from .. import __version__
from ..errors import CompileError
from ..ir.dtypes import DType, TensorType
from ..ir.graph import Graph, Node, Value
from ..ir.printer import graph_hash
from ..kernels.kernel import KernelCall
from ..plan.model import MemoryPlan, short_name

SCHEMA_VERSION = 1
FILE = "report.json"


class Place(msgspec.Struct, frozen=True):
    """A value in the arena. offset, bytes: in bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    bytes: int


class Port(msgspec.Struct, frozen=True):
    """A graph input or output.

    shape: as the device has it. onnx_shape: as the model file has it. layout: the permutation from
    the file's axes to the device's, None where they are the same. scale, zero_point: of int8.
    """

    name: str
    shape: tuple[int, ...]
    onnx_shape: tuple[int, ...]
    layout: tuple[int, ...] | None
    dtype: str
    bytes: int
    offset: int
    scale: float | None = None
    zero_point: int | None = None


class NodeReport(msgspec.Struct, frozen=True):
    """One node in the order of execution.

    index: as `ts_trace` counts. kernel: "" where the output is in place already. macs: of the
    operator. bytes: of its constants in flash. inputs, outputs: the activations in the arena.
    scratch_offset: None without scratch.
    """

    index: int
    name: str
    op: str
    onnx_name: str
    onnx_op: str
    kernel: str
    macs: int
    bytes: int
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    scratch_bytes: int = 0
    scratch_offset: int | None = None


class Report(msgspec.Struct, kw_only=True):
    """The whole report. Sizes in bytes.

    flash_bytes: text, read-only data and initialised data of the ELF; model_flash_bytes: the
    model's part of it. ram_bytes: arena, data and bss. stack_bytes: the deepest use.
    """

    schema_version: int = SCHEMA_VERSION
    tinsmith: str = __version__
    model: str
    c_name: str
    model_hash: str
    board: str
    target: str
    dtype: str
    macs: int
    weights_bytes: int
    arena_bytes: int
    arena_lower_bound_bytes: int
    arena_proved_optimal: bool
    peak_node: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[NodeReport, ...]
    notes: tuple[str, ...] = ()
    flash_bytes: int | None = None
    model_flash_bytes: int | None = None
    ram_bytes: int | None = None
    stack_bytes: int | None = None
    instructions_per_inference: int | None = None


def make_report(
    graph: Graph,
    calls: Sequence[KernelCall],
    plan: MemoryPlan,
    *,
    board: str,
    target: str,
    c_name: str,
    weights_bytes: int,
    notes: Sequence[str] = (),
) -> Report:
    """What is known before the project is built."""
    by_node = {call.node.name: call for call in calls}
    return Report(
        model=graph.name,
        c_name=c_name,
        model_hash=graph_hash(graph),
        board=board,
        target=target,
        dtype=str(DType.INT8 if _has_int8(graph) else DType.FLOAT32),
        macs=sum(n.op.macs(n) for n in graph.nodes),
        weights_bytes=weights_bytes,
        arena_bytes=plan.arena_bytes,
        arena_lower_bound_bytes=plan.lower_bound_bytes,
        arena_proved_optimal=plan.proved_optimal,
        peak_node=plan.peak_node,
        inputs=_ports(graph.inputs, graph.input_layouts, plan),
        outputs=_ports(graph.outputs, graph.output_layouts, plan),
        nodes=tuple(
            _node(i, n, by_node.get(n.name), graph, plan) for i, n in enumerate(graph.nodes)
        ),
        notes=tuple(notes),
    )


def write_report(folder: Path, report: Report) -> None:
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


def report_text(report: Report) -> str:
    """The report for people: figures, then one row per node."""
    figures: list[tuple[str, int | None]] = [
        ("MACs", report.macs),
        ("arena bytes", report.arena_bytes),
        ("arena lower bound", report.arena_lower_bound_bytes),
        ("flash bytes", report.flash_bytes),
        ("model flash bytes", report.model_flash_bytes),
        ("RAM bytes", report.ram_bytes),
        ("stack bytes", report.stack_bytes),
        ("instructions", report.instructions_per_inference),
    ]
    lines = [f"{report.model} on {report.board} ({report.target}, {report.dtype})", ""]
    lines += [f"{label:<18} {value:>14,}" for label, value in figures if value is not None]
    head = ("#", "node", "operator", "kernel", "MACs", "constants", "arena")
    rows = [head, *(_row(node) for node in report.nodes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    right = (0, 4, 5)
    lines.append("")
    for row in rows:
        cells = (
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        )
        lines.append("  ".join(cells).rstrip())
    if report.notes:
        lines += ["", *(f"note: {note}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def _row(node: NodeReport) -> tuple[str, ...]:
    reads = " ".join(f"[{p.offset}, {p.offset + p.bytes})" for p in node.inputs)
    writes = " ".join(f"[{p.offset}, {p.offset + p.bytes})" for p in node.outputs)
    kernel = node.kernel or "in place"
    return (
        str(node.index),
        short_name(node.name, 40),
        node.op,
        kernel,
        f"{node.macs:,}",
        f"{node.bytes:,}",
        f"{reads} -> {writes}",
    )


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
        outputs=tuple(_place(v, plan) for v in node.outputs),
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
