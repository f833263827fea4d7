"""A kernel: one way to compute an operator in C. What the planner and the generator know of it.

A kernel is a Python record beside its Jinja template. The portable kernel of operator `conv2d` is
`ops/conv2d.c.j2` (int8) and `ops/conv2d.f32.c.j2` (float32); tuned ones live under `targets/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value

UNKNOWN_INSTRUCTIONS = 1e18  # of a kernel without an estimate: any other is taken before it


class InPlaceOnly(int):
    """A lead of 0 that allows one place: output and input start at the same byte.

    For kernels that work through groups of channels: a group's bytes are read before they are
    written, and no other group's are touched.
    """


IN_PLACE_ONLY = InPlaceOnly(0)


@dataclass(frozen=True)
class Constant:
    """An array that goes to flash: a `const` pointer parameter of the kernel's C function.

    array: 1-D; alignment: bytes.
    """

    array: Array
    alignment: int = 4


@dataclass(frozen=True)
class Kernel:
    """One implementation of one operator.

    Attributes:
        name: unique; also the stem of the C function's name.
        op: the operator's name.
        template: path below the package's data root, "ops/x.c.j2" or "targets/t/kernels/x.c.j2".
        dtype: INT8 or FLOAT32.
        features: target features it needs.
        applies: whether it can compute this node. Portable kernels apply always.
        view: the names the template sees, beside `node` facts: plain ints, strings, tuples.
        constants: packed arrays by parameter name, in parameter order.
        state: the inputs of the node that are state, by parameter name, in parameter order. A
            kernel is not chosen for a node with state that it does not take.
        scratch_bytes: temporary memory while the node runs.
        lead_bytes: safe overlap of the output with activation input `i`: the output may start at
            or before `input start − lead`, although the two overlap. 0: in place. None: never.
            IN_PLACE_ONLY: at the input's start and nowhere else.
            Of several outputs the first is meant; the others overlap nothing.
        scratch_lead_bytes: safe overlap of the scratch with activation input `i`, as `lead_bytes`
            of the output: a kernel that copies an input in a larger form may lay the copy over it.
            What lies under the scratch is read before the first output is written.
        instructions: estimated executed instructions, to choose between kernels.
        may_refuse: its function returns a ts_status; any but TS_OK ends the run with TS_REFUSED.
    """

    name: str
    op: str
    template: str
    view: Callable[[Node, Graph], Mapping[str, Any]]
    constants: Callable[[Node, Graph], Mapping[str, Constant]] = lambda node, graph: {}
    dtype: DType = DType.INT8
    features: frozenset[str] = frozenset()
    applies: Callable[[Node, Graph], bool] = lambda node, graph: True
    state: Callable[[Node, Graph], Mapping[str, Value]] = lambda node, graph: {}
    scratch_bytes: Callable[[Node, Graph], int] = lambda node, graph: 0
    lead_bytes: Callable[[Node, int], int | None] = lambda node, index: None
    scratch_lead_bytes: Callable[[Node, int], int | None] = lambda node, index: None
    instructions: Callable[[Node, Graph], float] = lambda node, graph: UNKNOWN_INSTRUCTIONS
    may_refuse: bool = False


@dataclass(frozen=True)
class KernelCall:
    """A node with the kernel chosen for it, bound to its packed constants."""

    node: Node
    kernel: Kernel
    constants: Mapping[str, Constant]
    scratch_bytes: int
