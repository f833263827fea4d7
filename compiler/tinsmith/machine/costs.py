"""What kernels were measured to cost on a core: `targets/<target>/costs.toml`.

Per kernel a linear formula over counts that the kernel knows of a layer (`kernels/costs.py`), one
for instructions and one for estimated cycles. Written by `tests/benchmarks/calibrate_costs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import msgspec

from .. import paths
from ..errors import CompileError

FORM = " "  # in the name of a count: of one form of a template
PART = "."  # behind the function of a template that a count is of; "c": of all that are not named


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a kernel on a layer. instructions: executed; cycles: estimated, None where they have no
    prices; code_bytes: of the function, which layers of the same form share; 0: not known.
    """

    instructions: float
    cycles: float | None = None
    code_bytes: int = 0


class Formula(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one kernel: coefficients by the name of the count they are multiplied with.

    cycles: empty where the core's instructions have no prices. code_bytes: that a layer executes,
    the median. layers: that it was fitted to. forms: counts of forms of the template that were
    among them. per_estimate, cycles_per_estimate: of a layer of another form, times the kernel's
    own estimate. error: relative, that 9 of 10 layers were within when they were not fitted to;
    worst: of all of them.
    """

    instructions: dict[str, float]
    code_bytes: int
    layers: int
    error: float
    worst: float
    per_estimate: float
    cycles: dict[str, float] = {}
    cycles_per_estimate: float = 0.0
    forms: tuple[str, ...] = ()

    def cost(self, counts: Mapping[str, float]) -> Cost:
        """Of a layer with these counts (`kernels/counts/`)."""
        known = all(n in self.forms for n, count in counts.items() if FORM in n and count)
        if not known:
            estimate = counts["estimate"]
            cycles = self.cycles_per_estimate * estimate if self.cycles else None
            return Cost(self.per_estimate * estimate, cycles, self.code_bytes)
        cycles = evaluate(self.cycles, counts) if self.cycles else None
        return Cost(evaluate(self.instructions, counts), cycles, self.code_bytes)


class CostFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """compiler: whose code was measured."""

    compiler: str
    kernels: dict[str, Formula]


@cache
def load_costs(target: str) -> CostFile | None:
    """The file of a target; None where there is none. Raises CompileError for a bad one."""
    path = paths.TARGETS / target / "costs.toml"
    if not path.is_file():
        return None
    try:
        return msgspec.toml.decode(path.read_bytes(), type=CostFile)
    except msgspec.DecodeError as error:
        raise CompileError(f"targets/{target}/costs.toml: {error}") from error


def evaluate(formula: Mapping[str, float], counts: Mapping[str, float]) -> float:
    """A count that is not there is 0."""
    return sum(each * counts.get(name, 0.0) for name, each in formula.items())
