"""From a written project to its firmware: harness, compile, link, sizes, budgets, stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DoesNotFit
from ..ir.graph import Graph
from ..machine.board import Board
from .compile_c import build
from .harness import ModelBinding, write_harness
from .sizes import Sizes, check_budget, measure_sizes
from .stack import StackUse, worst_case_stack

# What the harness itself may use of the stack around a run: its own frames and semihosting.
_HARNESS_STACK_BYTES = 256


@dataclass(frozen=True)
class Firmware:
    """A linked firmware. stack: of `<model>_run`, or of a training step; None on the host."""

    elf: Path
    sizes: Sizes
    stack: StackUse | None


def build_firmware(
    project_dir: Path,
    graph: Graph,
    board: Board,
    *,
    ram: int | None = None,
    flash: int | None = None,
    peak_node: str | None = None,
    train: Graph | None = None,
    objects: Sequence[Path] = (),
    harness: str = "semihosting",
    beside: str = "",
) -> Firmware:
    """Build a project that `write_project` wrote; `train`: its training graph, if any.

    objects: linked besides, relative to the project. harness, beside: as in `harness_files`.
    ram, flash: bytes the user allows; None: what the board has. peak_node: the one with which the
    arena peaks, named when RAM does not suffice.
    Raises DoesNotFit for memory or stack, MissingTool, InternalError for code that does not build.
    """
    model = ModelBinding.of(graph, train)
    write_harness(project_dir, board, [model], harness, beside)
    elf = build(project_dir, board, objects=objects, peak_node=peak_node)
    parts = (model.name, *(f"{model.name}_{part}" for part in ("weights", "kernels", "cubin")))
    sizes = measure_sizes(elf, parts)
    check_budget(sizes, board, ram=ram, flash=flash, node=peak_node)
    stack = worst_case_stack(elf, board, f"{model.name}_run")
    if train is not None:
        deeper = worst_case_stack(elf, board, f"{model.name}_train_step")
        stack = deeper if deeper and stack and deeper.bytes > stack.bytes else stack
    if stack is not None and stack.bytes + _HARNESS_STACK_BYTES > board.stack_bytes:
        raise DoesNotFit(
            f"the model needs {stack.bytes:,} B of stack and the harness {_HARNESS_STACK_BYTES} B; "
            f"{board.name} reserves {board.stack_bytes:,} B",
            node=" → ".join(stack.path),
            hint=f"raise stack_bytes in boards/{board.name}/board.toml",
        )
    return Firmware(elf, sizes, stack)
