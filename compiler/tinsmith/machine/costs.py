"""What kernels were measured to cost on a core: `targets/<target>/costs.toml`.

Per kernel a linear formula over counts that the kernel knows of a layer (`kernels/costs.py`), one
for instructions and one for estimated cycles. Written by `tests/benchmarks/calibrate_costs.py`.
"""

from __future__ import annotations

from functools import cache

import msgspec

from .. import paths
from ..errors import CompileError


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
    the median. layers: that it was fitted to. error: the largest relative error, of instructions
    or cycles, on layers that it was not fitted to.
    """

    instructions: dict[str, float]
    code_bytes: int
    layers: int
    error: float
    cycles: dict[str, float] = {}


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


def evaluate(formula: dict[str, float], counts: dict[str, float]) -> float:
    """Raises KeyError for a count that the kernel does not have."""
    return sum(each * counts[name] for name, each in formula.items())
