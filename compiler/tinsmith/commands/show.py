"""How results look on a terminal: plain data in, tables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from ..codegen.report import Report
from ..codegen.report_text import trust_lines
from ..frontend.import_rules import WITHOUT_OPERATOR
from ..frontend.onnx_import import CheckReport
from ..frontend.qlinear import QLINEAR_OPERATORS
from ..ir.opdef import Absent, OpDef
from ..machine.board import Board, load_board
from ..machine.target import Target
from ..plan.model import short_name
from ..runner.bench import NodeProfile
from .console import out, table
from .doctor import Diagnosis

NODE_WIDTH = 40  # the columns beside a node matter more than its whole name


def check_data(report: CheckReport) -> dict[str, Any]:
    """`check --json`."""
    return {
        "model": report.name,
        "supported": not report.unsupported,
        "unsupported": [
            {"node": n.node, "op": n.op, "reason": n.reason} for n in report.unsupported
        ],
        "operators": dict(report.operators),
        "parameters": report.parameters,
        "macs": report.macs,
        "inputs": [{"name": name, "type": type_} for name, type_ in report.inputs],
        "outputs": [{"name": name, "type": type_} for name, type_ in report.outputs],
    }


def check(report: CheckReport) -> None:
    console = out()
    facts = f"{report.parameters:,} parameters, {report.macs:,} MACs"
    console.print(f"{report.name}: {sum(report.operators.values())} nodes, {facts}", markup=False)
    for kind, ports in (("input", report.inputs), ("output", report.outputs)):
        for name, type_ in ports:
            console.print(f"  {kind} {name}: {type_}", markup=False)
    counted = ", ".join(f"{op} {count}" for op, count in report.operators.items())
    console.print(f"  operators: {counted}", markup=False)
    if not report.unsupported:
        console.print("every node is supported")
        return
    rows = ((n.op, n.node, n.reason) for n in report.unsupported)
    console.print(table(f"{len(report.unsupported)} unsupported", ("op", "node", "why"), rows, 3))


def board_data(board: Board) -> dict[str, Any]:
    """One entry of `boards --json`."""
    return {
        "name": board.name,
        "description": board.description,
        "target": board.target.name,
        "targets": list(board.targets),
        "flash_bytes": board.flash_bytes,
        "ram_bytes": board.ram_bytes,
        "clock_hz": board.clock_hz or None,
        "emulator": board.emulator[0] if board.emulator else None,
        "twin": board.twin or None,
    }


def _runs_on(board: Board) -> str:
    if board.is_native:
        return "native"
    return board.twin or ("QEMU" if board.emulator else "elsewhere")


def boards(records: Iterable[Board]) -> None:
    rows = (
        (
            b.name,
            b.target.name,
            _runs_on(b),
            b.flash_bytes,
            b.ram_bytes,
            b.description,
        )
        for b in records
    )
    columns = ("board", "target", "runs on", "flash", "RAM", "")
    made = table("", columns, rows, 3)
    made.columns[-1].justify = "left"
    out().print(made)


def target_data(target: Target) -> dict[str, Any]:
    """One entry of `targets --json`."""
    return {
        "name": target.name,
        "description": target.description,
        "compiler": target.cc,
        "features": sorted(target.features),
        "arena_alignment": target.arena_alignment,
    }


def targets(records: Iterable[Target]) -> None:
    rows = ((t.name, t.cc, " ".join(sorted(t.features)), t.description) for t in records)
    out().print(table("", ("target", "compiler", "features", ""), rows, 4))


def op_data(op: OpDef) -> dict[str, Any]:
    """One entry of `ops --json`."""
    return {
        "name": op.name,
        "onnx": [] if isinstance(op.onnx_import, Absent) else sorted(op.onnx_import),
        "int8": not isinstance(op.integer, Absent),
        "int8_absent": op.integer.reason if isinstance(op.integer, Absent) else None,
    }


def ops(records: Iterable[OpDef]) -> None:
    rows = (
        (d["name"], ", ".join(d["onnx"]), "yes" if d["int8"] else d["int8_absent"])
        for d in map(op_data, records)
    )
    console = out()
    console.print(table("", ("operator", "from ONNX", "int8"), rows, 3))
    also = ", ".join((*WITHOUT_OPERATOR, *QLINEAR_OPERATORS))
    console.print(f"also read, as the operators above or as nothing: {also}", markup=False)


def doctor_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """`doctor --json`."""
    return {
        "ok": not diagnosis.missing,
        "python": diagnosis.python,
        "tools": [
            {
                "name": t.name,
                "path": t.path or None,
                "version": t.version or None,
                "needed_by": list(t.needed_by),
                "packages": list(t.packages),
                "problem": t.problem or None,
            }
            for t in diagnosis.tools
        ],
        "extras": {name: version or None for name, version in diagnosis.extras.items()},
        "install": diagnosis.install or None,
    }


def doctor(diagnosis: Diagnosis) -> None:
    console = out()
    console.print(f"Python {diagnosis.python}", markup=False)
    rows = (
        ("missing" if t.problem else "ok", t.name, t.problem or t.version, ", ".join(t.needed_by))
        for t in diagnosis.tools
    )
    console.print(table("", ("", "tool", "version", "needed by"), rows, 4))
    packages = (f"{name} {version or 'absent'}" for name, version in diagnosis.extras.items())
    console.print(f"optional packages: {', '.join(packages)}", markup=False)
    if diagnosis.missing:
        console.print(f"to install what is missing:\n  {diagnosis.install}", markup=False)
    else:
        console.print("everything that the boards need is installed")


def _removed(report: Report) -> str:
    if not report.removed_channels:
        return ""
    return (
        f"without {report.removed_channels:,} constant or unread channels: "
        f"{report.removed_macs:,} fewer, {report.removed_weight_bytes:,} B of weights"
    )


def compiled(report: Report, folder: Path) -> None:
    """The summary after `compile`."""
    arena, bound = report.arena_bytes, report.arena_lower_bound_bytes
    quality = "no plan is smaller" if report.arena_proved_optimal else f"bound {bound:,}"
    model = f"model {report.model_flash_bytes:,}" if report.model_flash_bytes else ""
    rows = [
        ("flash bytes", report.flash_bytes, model),
        ("RAM bytes", report.ram_bytes, f"arena {arena:,}, {quality}"),
        ("stack bytes", report.stack_bytes, ""),
        ("MACs", report.macs, _removed(report)),
    ]
    if report.train_arena_bytes is not None:
        state = f"state {report.state_bytes:,} of the RAM"
        rows.append(("training arena", report.train_arena_bytes, state))
    if report.trust is not None:
        rows.append(("secure flash bytes", report.secure_flash_bytes, ""))
        rows.append(("secure RAM bytes", report.secure_ram_bytes, ""))
        rows.append(("gateway calls", report.gateway_calls, "per inference"))
    made = table(f"{report.model} on {report.board} → {folder}", ("", "", ""), rows)
    made.show_header = False
    made.columns[-1].justify = "left"
    out().print(made)
    for line in trust_lines(report.trust) if report.trust else ():
        out().print(line, markup=False)


def report_data(report: Report) -> dict[str, Any]:
    """`compile --json`: what is in report.json."""
    return msgspec.to_builtins(report)


def notes(texts: Sequence[str], console: Console) -> None:
    """What the user must hear of."""
    for text in texts:
        console.print(f"note: {text}", markup=False)


def timings(seconds: Sequence[tuple[str, float]], console: Console) -> None:
    """`--timings`: seconds per pass, in order."""
    total = ("total", sum(s for _, s in seconds))
    console.print(table("", ("pass", "seconds"), [(n, f"{s:.3f}") for n, s in (*seconds, total)]))


def figures(title: str, values: Mapping[str, int | float | None]) -> None:
    """Named numbers; those that are not known are left out."""
    made = table(title, ("", ""), [(k, v) for k, v in values.items() if v is not None])
    made.show_header = False
    out().print(made)


def profile(nodes: Sequence[NodeProfile]) -> None:
    """`bench --layers`."""
    timed = any(p.microseconds is not None for p in nodes)
    counted = "cycles" if any(p.cycles is not None for p in nodes) else "instructions"
    costs = [(p.microseconds if timed else p.cycles or p.instructions) or 0 for p in nodes]
    total = sum(costs) or 1
    rows: list[tuple[object, ...]] = []
    for p, cost in zip(nodes, costs, strict=True):
        macs = p.node.op.macs(p.node)
        ratio = (macs / cost / 1e3 if timed and cost else cost / macs) if macs else None
        name = short_name(p.node.name, NODE_WIDTH)
        rows.append((p.node.op.name, name, macs or None, cost, f"{cost / total:.1%}", ratio))
    columns = ("op", "node", "MACs", counted, "share", "per MAC")
    if timed:
        columns = ("op", "node", "MACs", "µs", "share", "GMAC/s")
    out().print(table("", columns, rows, 2))


def unmeasured(report: Report) -> str:
    """Why there is no figure of an inference."""
    if load_board(report.board, report.target).counter.kind == "clock":
        return f"{report.board} is emulated here: times are not measured"
    return "the host does not count instructions"
