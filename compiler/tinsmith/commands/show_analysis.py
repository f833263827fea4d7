"""How `analyze` shows a program: per node the kernel, what it costs, and the runner-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..codegen.program import Program
from ..errors import InternalError
from ..kernels.candidate import Candidate
from ..kernels.explain import runner_up
from ..kernels.kernel import UNKNOWN_INSTRUCTIONS
from ..kernels.select import Selection
from ..plan.model import short_name
from .console import out, table

NODE_WIDTH = 32  # the columns beside a node matter more than its whole name


def analysis_rows(program: Program) -> list[dict[str, Any]]:
    """One row per node, in the order of execution. Bytes are of constants in flash."""
    selection = _selection(program)
    chosen = {c.node.name: c for c in selection.chosen}
    plan = program.plan
    rows: list[dict[str, Any]] = []
    for node in program.graph.nodes:
        mine = chosen.get(node.name) if node.name not in plan.in_place else None
        rows.append(
            {
                "name": node.name,
                "onnx_node": node.origin.onnx_name,
                "op": node.op.name,
                "input": list(node.x.shape),
                "output": list(node.y.shape),
                "macs": node.op.macs(node),
                **_costs(mine),
                "arena_offset": plan.offsets.get(node.outputs[0]),
                "runner_up": _runner_up(selection, mine),
            }
        )
    return rows


def _selection(program: Program) -> Selection:
    if program.selection is None:
        raise InternalError("a program without a selection of kernels")
    return program.selection


def _costs(candidate: Candidate | None) -> dict[str, Any]:
    if candidate is None:
        zero = dict.fromkeys(("constant_bytes", "scratch_bytes", "estimated_instructions"), 0)
        return {**zero, "kernel": None, "estimated_cycles": None, "code_bytes": None}
    cost = candidate.cost
    known = cost.instructions < UNKNOWN_INSTRUCTIONS
    return {
        "kernel": candidate.kernel.name,
        "constant_bytes": candidate.constant_bytes,
        "scratch_bytes": candidate.scratch_bytes,
        "code_bytes": cost.code_bytes or None,
        "estimated_instructions": round(cost.instructions) if known else None,
        "estimated_cycles": None if cost.cycles is None else round(cost.cycles),
    }


def _runner_up(selection: Selection, chosen: Candidate | None) -> dict[str, Any] | None:
    found = None if chosen is None else runner_up(selection, chosen)
    return None if found is None else {**_costs(found[0]), "why_not": found[1]}


def analysis_data(
    program: Program, rows: Sequence[Mapping[str, Any]], board: str, notes: Sequence[str]
) -> dict[str, Any]:
    """`analyze --json`."""
    selection = _selection(program)
    cycles = [r["estimated_cycles"] for r in rows if r["kernel"]]
    return {
        "model": program.graph.name,
        "board": board,
        "objective": selection.aim.objective,
        "choice": selection.status,
        "macs": sum(row["macs"] for row in rows),
        "constant_bytes": sum(row["constant_bytes"] for row in rows),
        "flash_room_bytes": selection.room,
        "estimated_instructions": sum(row["estimated_instructions"] or 0 for row in rows),
        "estimated_cycles": sum(cycles) if None not in cycles else None,
        "arena_bytes": program.plan.arena_bytes,
        "arena_lower_bound_bytes": program.plan.lower_bound_bytes,
        "arena_proved_optimal": program.plan.proved_optimal,
        "arena_bound_counts": program.plan.bound_counts,
        "arena_strategy": program.plan.strategy,
        "peak_node": program.plan.peak_node,
        "nodes": list(rows),
        "notes": list(notes),
    }


def analysis(program: Program, rows: Sequence[Mapping[str, Any]], board: str) -> None:
    """As a table; cycles where the core's are known, else instructions."""
    known = all(r["estimated_cycles"] is not None for r in rows if r["kernel"])
    figures = ["macs", "constant_bytes", "scratch_bytes", "estimated_instructions"]
    columns = ["#", "op", "node", "kernel", "output", "MACs", "constants", "scratch", "est. instr."]
    if known:
        figures.append("estimated_cycles")
        columns.append("est. cycles")
    cells: list[tuple[object, ...]] = [
        (
            str(i),
            r["op"],
            short_name(r["name"], NODE_WIDTH),
            r["kernel"] or "in place",
            "×".join(map(str, r["output"])),
            *(r[k] or None for k in figures),
            _against(r["runner_up"]),
        )
        for i, r in enumerate(rows)
    ]
    totals = [sum(r[k] or 0 for r in rows) if k != "scratch_bytes" else None for k in figures]
    cells.append(("", "total", "", "", "", *totals, ""))
    made = table(f"{program.graph.name} for {board}", (*columns, "runner-up"), cells, 5)
    made.columns[-1].justify = "left"
    out().print(made)
    out().print(_how(_selection(program)), markup=False)


def _against(other: Mapping[str, Any] | None) -> str:
    return "" if other is None else f"{other['kernel']}: {other['why_not']}"


def _how(selection: Selection) -> str:
    """What was made least, within which budgets, and whether that is proved."""
    room = "" if selection.room is None else f", of {selection.room:,} B that flash has room for"
    limit = "" if selection.limit is None else f"; at most {selection.limit:,} B live at a node"
    proved = {
        "optimal": "no choice of kernels costs less",
        "bounded": "not proved the best choice: the search was cut short",
        "too large": "no choice of kernels is small enough for the flash",
    }[selection.status]
    return (
        f"chosen for {selection.aim.objective}; constants and code {selection.flash_bytes:,} B"
        f"{room}{limit}; {proved}"
    )
