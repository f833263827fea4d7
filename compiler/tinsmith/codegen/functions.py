"""Kernel calls → C functions and calls. Functions with the same text are emitted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import InternalError
from ..ir.dtypes import DType
from ..ir.graph import Graph, Node, Value
from ..kernels.kernel import Constant, KernelCall
from ..plan.model import MemoryPlan, short_name
from .c_text import INDENT, Names, c_comment_block, c_pointer, c_wrap_call
from .environment import render
from .state import StateBlock
from .views import FunctionView

_PLACEHOLDER = "TS_KERNEL_FUNCTION"


@dataclass
class Functions:
    """Collects the functions of a model."""

    _names: dict[str, str] = field(default_factory=dict[str, str])
    _texts: dict[str, str] = field(default_factory=dict[str, str])
    _users: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _unique: Names = field(default_factory=Names)

    def add(self, call: KernelCall, graph: Graph) -> str:
        """Name of the C function that computes `call`."""
        key = _render(call, graph, _PLACEHOLDER)
        if key not in self._names:
            self._names[key] = self._unique.unique(call.kernel.name)
            self._texts[key] = _render(call, graph, self._names[key])
        self._users.setdefault(key, []).append(call.node.name)
        return self._names[key]

    def views(self) -> tuple[FunctionView, ...]:
        return tuple(
            FunctionView(c_comment_block([f"{self._names[key]}: {_some(self._users[key])}"]), text)
            for key, text in self._texts.items()
        )


def _render(call: KernelCall, graph: Graph, function: str) -> str:
    names = dict(call.kernel.view(call.node, graph))
    for reserved in ("signature", "name"):
        if reserved in names:
            raise InternalError(f"the view of kernel {call.kernel.name} redefines {reserved!r}")
    names |= {"signature": signature(call, graph, function), "name": function}
    return render(call.kernel.template, names).strip() + "\n"


def signature(call: KernelCall, graph: Graph, function: str) -> str:
    """`static void function(…)`, as the template contract says (docs/architecture.md); of a kernel
    that may refuse `static ts_status function(…)`."""
    node = call.node
    kernel = call.kernel
    written = {i for i, _ in activations(node, graph) if kernel.lead_bytes(node, i) is not None}
    covered = {
        i for i, _ in activations(node, graph) if kernel.scratch_lead_bytes(node, i) is not None
    }
    parameters: list[str] = []
    for n, (i, value) in enumerate(activations(node, graph)):
        star = "*" if i in written | covered else "*restrict "
        parameters.append(f"const {value.type.dtype.c} {star}x{n or ''}")
    for n, value in enumerate(graph.results(node)):
        star = "*" if written else "*restrict "
        parameters.append(f"{value.type.dtype.c} {star}y{n or ''}")
    changed = {old for old, _ in node.updates}
    for name, value in call.kernel.state(node, graph).items():
        const = "" if value in changed else "const "
        parameters.append(f"{const}{value.type.dtype.c} *restrict {name}")
    for name, constant in call.constants.items():
        parameters.append(f"const {constant_type(constant).c} *restrict {name}")
    if call.scratch_bytes:
        parameters.append(f"uint8_t *{'' if covered else 'restrict '}scratch")
    result = "ts_status" if call.kernel.may_refuse else "void"
    return c_wrap_call(f"static {result} {function}", parameters, "")


def call_text(
    function: str,
    call: KernelCall,
    graph: Graph,
    plan: MemoryPlan,
    constants: Mapping[str, str],
    state: StateBlock,
) -> str:
    """The call statement; `constants`: name of the array behind each constant parameter."""
    node = call.node
    arguments = [arena_pointer(v, plan, const=True) for _, v in activations(node, graph)]
    arguments += [arena_pointer(v, plan) for v in graph.results(node)]
    changed = {old for old, _ in node.updates}
    for value in call.kernel.state(node, graph).values():
        arguments.append(state.pointer(graph.storage[value], const=value not in changed))
    arguments += [constants[name] for name in call.constants]
    if call.scratch_bytes:
        arguments.append(f"arena + {plan.scratch[node.name]}")
    if call.kernel.may_refuse:
        asked = c_wrap_call(f"if ({function}", arguments, " != TS_OK) {", INDENT)
        return f"{asked}\n{INDENT * 2}return TS_REFUSED;\n{INDENT}}}"
    return c_wrap_call(function, arguments, ";", INDENT)


def arena_pointer(value: Value, plan: MemoryPlan, *, const: bool = False) -> str:
    """The bytes of a value as a pointer to its element type."""
    return c_pointer("arena", plan.offsets[value], value.type.dtype, const=const)


def activations(node: Node, graph: Graph) -> list[tuple[int, Value]]:
    """(position in node.inputs, value) of the inputs that are in the arena."""
    taken = set(graph.activations(node))
    return [(i, v) for i, v in enumerate(node.inputs) if v in taken]


def constant_type(constant: Constant) -> DType:
    return DType(constant.array.dtype.name)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(short_name(name, 48) for name in names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
