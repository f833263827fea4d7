"""The report of a project whose firmware is linked: what the compiler knows, and what it weighs."""

from __future__ import annotations

from ..codegen.program import Program
from ..codegen.report import Report, add_training, make_report
from ..machine.board import Board
from ..pass_manager import PassContext
from ..passes import fold_constant_channels
from .firmware import Firmware
from .flash_parts import flash_parts


def built_report(
    program: Program, board: Board, weights_bytes: int, built: Firmware, context: PassContext
) -> Report:
    """What the compiler knows, with the sizes of the linked ELF."""
    report = make_report(program, board, weights_bytes, context.notes)
    removed = context.facts.get(fold_constant_channels.NAME)
    if removed is not None:
        report.removed_channels = removed.channels
        report.removed_macs = removed.macs
        report.removed_weight_bytes = removed.weight_bytes
    report.flash_bytes = built.sizes.flash_bytes
    report.model_flash_bytes = built.sizes.model_flash_bytes
    report.ram_bytes = built.sizes.ram_bytes
    if program.library is not None:
        report.kernels_bytes = built.sizes.kernels_bytes
    report.stack_bytes = built.stack.bytes if built.stack else None
    if program.train is not None:
        add_training(report, program.train)
        report.train_ram_bytes = built.sizes.ram_bytes
    if not board.is_host:
        filters = sum(a.nbytes for a in program.graph.initializers.values() if a.ndim > 1)
        nodes = report.nodes + report.train_nodes
        report.flash = flash_parts(
            built.elf, program.c_name, built.sizes.flash_bytes, nodes, filters
        )
    return report
