"""The rules as kernel records: what the planner and the generator need to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from networkx.utils import UnionFind

from ..errors import InternalError
from ..ir.dtypes import DType
from ..ir.graph import Graph, Node, Value
from ..kernels.kernel import Constant, Kernel, KernelCall
from ..machine.target import Isa
from .registry import registry, rule_for
from .rule import Rule, Site
from .self_test import check

_Use = tuple[Node, frozenset[Value]]  # a node, and the values that are stored with an offset

_TEMPLATE = "codegen/tvm_call.c.j2"
_ALIGNMENT = 64  # of constants that fill a vector: a cache line


@dataclass
class KernelLibrary:
    """The functions of one model that TVM compiles: equal ones share a symbol.

    prefix: of every symbol, the model's C name.
    """

    prefix: str
    isa: Isa
    _functions: dict[str, Any] = field(default_factory=dict[str, Any])
    _by_hash: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    _sites: dict[Site, str] = field(default_factory=dict[Site, str])
    _packed: dict[_Use, Mapping[str, Constant]] = field(default_factory=dict)
    _object: bytes = b""

    def __post_init__(self) -> None:
        """Raises MissingTool when the installed TVM, if any, cannot compile for `isa`."""
        check(self.isa)

    def symbol(self, rule: Rule, site: Site) -> str:
        """The C function that computes `site`; it is built when no equal one is there yet."""
        if site not in self._sites:
            self._sites[site] = self._share(rule.build(site), site.node.op.name)
        return self._sites[site]

    def constants(self, rule: Rule, site: Site) -> Mapping[str, Constant]:
        """What `site` needs in flash, packed once."""
        use = (site.node, site.stored)
        if use not in self._packed:
            self._packed[use] = {n: _aligned(c) for n, c in rule.constants(site).items()}
        return self._packed[use]

    def code(self) -> bytes:
        """The object with all functions so far. Raises InternalError when one does not compile."""
        from .native import compile_object

        if not self._object:
            self._object = compile_object(self._functions, self.isa)
        return self._object

    def _share(self, function: Any, op: str) -> str:
        from tvm_ffi import structural_equal, structural_hash

        alike = self._by_hash.setdefault(int(structural_hash(function)), [])
        for name in alike:
            if structural_equal(self._functions[name], function):
                return name
        if self._object:
            raise InternalError(f"{op}: a kernel is asked for after the library was compiled")
        same_op = sum(name.startswith(f"{self.prefix}_tvm_{op}_") for name in self._functions)
        name = f"{self.prefix}_tvm_{op}_{same_op}"
        self._functions[name] = function
        alike.append(name)
        return name


def stored_with_offset(graph: Graph, isa: Isa) -> frozenset[Value]:
    """The activations to hold as uint8 = q + `isa.storage_offset`: those that only rules write and
    read. Views, and what a concatenation may lay out in place, have one form for all.

    Never graph inputs, outputs or state, whose form the API fixes.
    """
    if not isa.storage_offset:
        return frozenset()
    groups: UnionFind[Value] = UnionFind()
    fixed = {*graph.inputs, *graph.outputs, *graph.storage, *graph.initializers}
    for node in graph.nodes:
        inside = (*graph.activations(node), *graph.results(node))
        if node.op.is_view or node.op.name == "concat":
            groups.union(*inside)
        if not node.op.is_view and rule_for(node, graph) is None:
            fixed.update(inside)
    values = {v for n in graph.nodes for v in (*graph.activations(n), *graph.results(n))}
    fixed |= {v for v in values if v.type.dtype is not DType.INT8}
    banned = {groups[v] for v in fixed}
    return frozenset(v for v in values if groups[v] not in banned)


def tvm_kernels(library: KernelLibrary, stored: frozenset[Value]) -> list[Kernel]:
    """A kernel per rule and element type, cheaper than any other; `library` gets their functions.

    Raises MissingTool without TVM.
    """
    return [
        _kernel(rule, dtype, library, stored)
        for rule in registry()
        for dtype in (DType.INT8, DType.FLOAT32)
    ]


def without_rule(calls: Iterable[KernelCall]) -> Iterator[str]:
    """What to say of nodes that compute much with portable C, for want of a rule that applies."""
    for call in calls:
        node = call.node
        if call.kernel.template != _TEMPLATE and node.op.macs(node):
            yield (
                f"{node.op.name} {node.name} ({node.origin}) has no rule for TVM; it runs with the "
                f"portable kernel {call.kernel.name}: {node.op.macs(node):,} MACs"
            )


def _kernel(rule: Rule, dtype: DType, library: KernelLibrary, stored: frozenset[Value]) -> Kernel:
    def site(node: Node, graph: Graph) -> Site:
        return Site(node, graph, library.isa, stored)

    def view(node: Node, graph: Graph) -> Mapping[str, Any]:
        here = site(node, graph)
        names = _arguments(rule, here, library.constants(rule, here))
        return {"symbol": library.symbol(rule, here), "arguments": tuple(names)}

    def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
        return library.constants(rule, site(node, graph))

    return Kernel(
        name=f"tvm_{rule.op}",
        op=rule.op,
        template=_TEMPLATE,
        dtype=dtype,
        view=view,
        constants=constants,
        state=rule.state,
        applies=lambda node, graph: rule_for(node, graph) is rule,
        scratch_bytes=lambda node, graph: rule.scratch_bytes(site(node, graph)),
        lead_bytes=rule.lead_bytes,
        instructions=lambda node, graph: 0.0,
    )


def _arguments(rule: Rule, site: Site, constants: Iterable[str]) -> Iterator[str]:
    """The parameters of the stub as the compiled function takes them, in its order."""
    graph, node = site.graph, site.node
    for values, stem in ((graph.activations(node), "x"), (graph.results(node), "y")):
        yield from (f"{stem}{n or ''}" for n in range(len(values)))
    yield from rule.state(node, graph)
    yield from constants
    if rule.scratch_bytes(site):
        yield "scratch"


def _aligned(constant: Constant) -> Constant:
    if constant.array.nbytes < _ALIGNMENT or constant.alignment >= _ALIGNMENT:
        return constant
    return Constant(constant.array, _ALIGNMENT)
