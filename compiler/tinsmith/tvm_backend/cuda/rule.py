"""A rule for the GPU: how one operator of one element type is computed."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ...kernels import Constant
from ...kernels.select import kernel_dtype

if TYPE_CHECKING:
    from ..import_tvm import PrimFunc
else:
    PrimFunc = Any


@dataclass(frozen=True)
class CudaRule:
    """How one operator is computed.

    Attributes:
        op: the operator's name.
        build: a scheduled PrimFunc of one kernel, or of several that run in order. Its buffers are
            flat and named: x, x1… the activation inputs in order, y, y1… the results, s0, s1… the
            state among the inputs by position, written in place, and the names of `constants`.
        dtype: INT8 or FLOAT32, as `kernel_dtype` says of the node.
        constants: packed arrays by buffer name.
        applies: whether it computes this node exactly.
        state: as `Kernel.state`.
    """

    op: str
    build: Callable[[Node, Graph], PrimFunc]
    dtype: DType = DType.INT8
    constants: Callable[[Node, Graph], Mapping[str, Constant]] = lambda node, graph: {}
    applies: Callable[[Node, Graph], bool] = lambda node, graph: True
    state: Callable[[Node, Graph], Mapping[str, Value]] = lambda node, graph: {}


@cache
def registry() -> tuple[CudaRule, ...]:
    """Every rule of `rules/`, by module, then as listed there. Raises MissingTool without TVM."""
    return tuple(_scan())


def rule_for(node: Node, graph: Graph) -> CudaRule | None:
    """The first rule that computes the node; None when there is none."""
    dtype = kernel_dtype(node)
    fitting = (r for r in registry() if r.op == node.op.name and r.dtype is dtype)
    return next((r for r in fitting if r.applies(node, graph)), None)


def buffer_names(node: Node, graph: Graph) -> list[tuple[str, Value]]:
    """The activation buffers of a node in order: (name in its PrimFunc, value)."""
    taken = set(graph.activations(node))
    read = [v for v in node.inputs if v in taken]
    named = [(f"x{i or ''}", v) for i, v in enumerate(read)]
    return named + [(f"y{i or ''}", v) for i, v in enumerate(graph.results(node))]


def operand_names(node: Node, graph: Graph) -> list[str]:
    """The buffer behind each of the node's inputs: x, x1…; by position s0, s1… of state and c0, c1…
    of constants."""
    taken = set(graph.activations(node))
    names: list[str] = []
    read = 0
    for i, value in enumerate(node.inputs):
        kept = f"s{i}" if value in graph.storage else f"c{i}"
        names.append(f"x{read or ''}" if value in taken else kept)
        read += value in taken
    return names


def state_names(node: Node, graph: Graph) -> list[tuple[str, Value]]:
    """The buffers of state that a node reads, and whose new versions it writes there."""
    named = zip(operand_names(node, graph), node.inputs, strict=True)
    return [(name, value) for name, value in named if name.startswith("s")]


def constant_operands(node: Node, graph: Graph) -> dict[str, Constant]:
    """The arrays that `operand_names` calls c0, c1…, but for those without elements."""
    names = operand_names(node, graph)
    return {
        name: Constant(graph.constant(v).ravel(), 16)
        for name, v in zip(names, node.inputs, strict=True)
        if name.startswith("c") and v.type.elements
    }


def unravel(index: Any, shape: Sequence[int]) -> list[Any]:
    """A flat index expression → one per axis."""
    indices: list[Any] = []
    for axis in range(len(shape)):
        inner = math.prod(shape[axis + 1 :])
        rest = index // inner if inner != 1 else index
        indices.append(rest % shape[axis] if axis else rest)
    return indices


def ravel(indices: Sequence[Any], shape: Sequence[int]) -> Any:
    """One index expression per axis → the flat one."""
    flat: Any = 0
    for index, size in zip(indices, shape, strict=True):
        flat = flat * size + index
    return flat


def _scan() -> Iterator[CudaRule]:
    rules = importlib.import_module(f"{__package__}.rules")
    modules = pkgutil.iter_modules(rules.__path__, f"{rules.__name__}.")
    for info in sorted(modules, key=lambda m: m.name):
        yield from importlib.import_module(info.name).RULES
