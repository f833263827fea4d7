"""A kernel that could compute a node: what it costs in time, flash and RAM."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

from ..ir.graph import Graph, Node
from ..machine.costs import Cost
from .aim import Objective
from .choose import Option
from .kernel import Kernel, KernelCall

UNKNOWN_CODE_BYTES = 500  # of a function that was not measured
CYCLES_PER_INSTRUCTION = 1.4  # where only instructions are known, of a core whose cycles count


@dataclass(frozen=True, eq=False)
class Candidate:
    """Its constants are packed when they are asked for."""

    node: Node
    graph: Graph
    kernel: Kernel
    cost: Cost

    @cached_property
    def call(self) -> KernelCall:
        constants = self.kernel.constants(self.node, self.graph)
        return KernelCall(self.node, self.kernel, constants, self.scratch_bytes)

    @cached_property
    def scratch_bytes(self) -> int:
        return self.kernel.scratch_bytes(self.node, self.graph)

    @cached_property
    def constant_bytes(self) -> int:
        return sum(c.array.nbytes for c in self.call.constants.values())

    @cached_property
    def function(self) -> Hashable:
        """Equal for nodes that share a function: shapes go into its text, data do not."""
        return self.kernel.name, repr(self.kernel.view(self.node, self.graph))

    def value(self, objective: Objective) -> float:
        """In cycles, or in instructions."""
        if objective != "cycles":
            return self.cost.instructions
        if self.cost.cycles is not None:
            return self.cost.cycles
        return CYCLES_PER_INSTRUCTION * self.cost.instructions

    def option(self, objective: Objective) -> Option:
        # By its price all code weighs alike, or a block would lose to loops that take ten times as
        # long; a budget counts what was measured.
        measured = 0 if objective == "flash" else self.cost.code_bytes
        code = measured or UNKNOWN_CODE_BYTES
        return Option(self.value(objective), self.constant_bytes, self.function, code)
