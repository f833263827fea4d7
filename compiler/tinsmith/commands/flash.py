"""The command that writes firmware to a board."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ..errors import BadInput, CompileError
from ..lab.flash import Writing, at_debugger, plan_writing, remote_commands, write
from ..lab.flash_tools import TOOLS
from ..lab.place import held
from .console import err, out, print_json, progress, reported
from .options import AsJson, Project
from .serial import Coordinator, PlaceName


@reported
def flash(
    project: Project,
    probe: Annotated[
        str | None, typer.Option("--probe", metavar="ID", help="which of several debug probes")
    ] = None,
    tool: Annotated[
        str | None,
        typer.Option("--tool", help=f"{' or '.join(TOOLS)}; by default as board.toml says"),
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="the firmware that `tinsmith profile` made and needs")
    ] = False,
    labgrid: PlaceName = None,
    coordinator: Coordinator = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the commands and write nothing")
    ] = False,
    json: AsJson = False,
) -> None:
    """Write a project's firmware to its board with pyocd or openocd, verify it, and reset."""
    if tool is not None and tool not in TOOLS:
        raise BadInput(f"unknown tool {tool!r}", expected=f"one of {', '.join(TOOLS)}")
    if labgrid is None and coordinator is not None:
        raise CompileError("--coordinator is of --labgrid", hint="name a place")
    plan = plan_writing(project, tool=tool, probe=probe, trace=trace)
    if labgrid is not None:
        with held(labgrid, coordinator) as place:
            plan = at_debugger(plan, place.debugger())
            _carry_out(plan, dry_run)
    else:
        _carry_out(plan, dry_run)
    commands = _commands(plan)
    if json:
        print_json(
            {
                "board": plan.board.name,
                "tool": plan.tool,
                "images": [str(path) for path in plan.images],
                "host": plan.host,
                "commands": commands,
                "written": not dry_run,
            }
        )
    elif dry_run:
        for command in commands:
            out().print(shlex.join(command), markup=False, soft_wrap=True)
    else:
        names = " and ".join(str(path) for path in plan.images)
        where = f" at {plan.host}" if plan.host else ""
        out().print(f"{plan.board.name}{where}: wrote {names}", markup=False, soft_wrap=True)


def _commands(plan: Writing) -> list[list[str]]:
    return [plan.command()] if plan.host is None else remote_commands(plan)


def _carry_out(plan: Writing, dry_run: bool) -> None:
    plan.command()  # what board.toml lacks is said before anything happens
    if dry_run:
        err().print("note: nothing is written", markup=False)
        return
    with progress(f"writing to {plan.board.name} with {plan.tool}"):
        write(plan)
