"""What a choice of kernels is for: the objective, the budgets, what the user says himself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import CompileError
from ..ir.graph import Node
from ..machine.target import Target

Objective = Literal["instructions", "cycles", "flash", "ram"]
OBJECTIVES: tuple[Objective, ...] = ("instructions", "cycles", "flash", "ram")
FLASH_PRICE = 128.0  # instructions that a byte is worth to --optimize flash
ARENA_PRICE = 64.0  # and a byte of the arena


@dataclass(frozen=True)
class Aim:
    """objective: what is made least; "flash" is instructions with a price on every byte of
    constants and code, and a lower one on the arena's, "ram" the arena first. flash_bytes: in place
    of the board's. pins: the kernel of a node, by its name or that of its ONNX node. harness_bytes:
    of flash, with the libraries that the harness takes.
    """

    objective: Objective = "instructions"
    flash_bytes: int | None = None
    pins: Mapping[str, str] = field(default_factory=dict[str, str])
    harness_bytes: int = 1536

    def check(self, target: Target) -> None:
        """Raises CompileError for an objective that is unknown, or not known of this core."""
        if self.objective not in OBJECTIVES:
            raise CompileError(
                f"cannot optimise for {self.objective!r}",
                expected=f"one of {', '.join(OBJECTIVES)}",
            )
        if self.objective == "cycles" and target.cycles is None:
            raise CompileError(
                f"the cycles of target {target.name} are not known",
                expected="a target whose target.toml has prices of instructions in [cycles]",
                hint="--optimize instructions",
            )

    @property
    def price(self) -> float:
        """Of a byte of flash."""
        return FLASH_PRICE if self.objective == "flash" else 0.0

    @property
    def arena_price(self) -> float:
        """Of a byte that is live at the worst step."""
        return ARENA_PRICE if self.objective == "flash" else 0.0

    def pin(self, node: Node) -> str | None:
        """The kernel that the user wants for a node."""
        return next((self.pins[name] for name in names_of(node) if name in self.pins), None)


def names_of(node: Node) -> tuple[str, str, str]:
    """By which a node can be meant: its own name, that of a node whose rows it computes, and that
    of its ONNX node."""
    return node.name, node.name.split(".rows")[0], node.origin.onnx_name


BY_INSTRUCTIONS = Aim()
