"""Rules of the TVM back end on this machine: sites of a graph's nodes, compiled and called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinsmith.ir.dtypes import Array, DType
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.ir.interpret import evaluate
from tinsmith.machine.target import Isa, load_target, target_names
from tinsmith.tvm_backend.registry import rule_for
from tinsmith.tvm_backend.rule import Rule, Site


def native_isas() -> dict[str, Isa]:
    """The instruction sets for TVM that this machine has, by target name, the widest first."""
    flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    found = {name: load_target(name).tvm for name in target_names()}
    here = {
        name: isa
        for name, isa in found.items()
        if isa and isa.triple.startswith("x86_64") and flags.issuperset(isa.cpu_flags)
    }
    return dict(sorted(here.items(), key=lambda item: -item[1].lanes))


@dataclass(frozen=True)
class Use:
    """A node with its rule, for one instruction set and one way to store its activations."""

    rule: Rule
    site: Site


def uses(graph: Graph, isa: Isa, *, every: bool = True) -> list[Use]:
    """All nodes but views, with their int8 activations stored as they are, with an offset, and
    mixed. every: otherwise just the first one as it is and the others with an offset."""
    found: list[Use] = []
    for node in graph.nodes:
        if node.op.is_view:
            continue
        rule = rule_for(node, graph)
        assert rule is not None, f"{node.op.name} %{node.name} has no rule"
        for stored in _ways(node, graph, every=every):
            found.append(Use(rule, Site(node, graph, isa, stored)))
    return found


def _ways(node: Node, graph: Graph, *, every: bool) -> list[frozenset[Value]]:
    mine = dict.fromkeys((*graph.activations(node), *graph.results(node)))
    values = [v for v in mine if v.type.dtype is DType.INT8]
    if not values:
        return [frozenset()]
    ways = [frozenset(values[1:])]
    if every:
        ways += [frozenset(values), frozenset(), frozenset(values[:1])]
        ways += [frozenset(values[::2])] if len(values) > 2 else []
    return list(dict.fromkeys(ways))


def evaluated(graph: Graph, inputs: Sequence[Array]) -> dict[Value, Array]:
    """Every value of the graph, by the numpy references."""
    known = dict(graph.initializers) | dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        results = evaluate(node, [known[v] for v in node.inputs])
        known |= dict(zip(node.outputs, results, strict=True))
    return known


@dataclass(frozen=True)
class Compiled:
    """Functions of several uses in one module."""

    uses: Sequence[Use]
    module: Any

    def call(self, index: int, known: dict[Value, Array]) -> list[tuple[Value, Array, Array]]:
        """(output, computed, expected), both as they are stored; also new versions of state."""
        import tvm

        use = self.uses[index]
        site, graph, node = use.site, use.site.graph, use.site.node
        results = graph.results(node)
        given = [_stored(site, v, known[v]) for v in graph.activations(node)]
        made = [np.full(v.type.elements, 77, site.dtype(v)) for v in results]
        kept = list(use.rule.state(node, graph).values())
        tables = [np.ravel(known[v]) for v in kept]
        tables += [c.array.reshape(-1) for c in use.rule.constants(site).values()]
        scratch_bytes = use.rule.scratch_bytes(site)
        scratch = [np.full(scratch_bytes, 0x5A, np.uint8)] if scratch_bytes else []
        tensors = [tvm.runtime.tensor(a) for a in (*given, *made, *tables, *scratch)]
        self.module[f"f{index}"](*tensors)
        first = len(given) + len(made)
        got = [t.numpy() for t in tensors[len(given) : first]]
        at = {v: tensors[first + i].numpy() for i, v in enumerate(kept)}
        moved = [(new, at[old]) for old, new in node.updates if old in at]
        found = [*zip(results, got, strict=True), *moved]
        return [(v, array, _stored(site, v, known[v])) for v, array in found]


def compiled(uses_: Sequence[Use]) -> Compiled:
    """Compiles the uses, all for one instruction set."""
    import tvm

    from tinsmith.tvm_backend.native import llvm_target

    functions = {
        tvm.ir.GlobalVar(f"f{i}"): use.rule.build(use.site).with_attr("global_symbol", f"f{i}")
        for i, use in enumerate(uses_)
    }
    target = llvm_target(uses_[0].site.isa)
    return Compiled(uses_, tvm.compile(tvm.IRModule(functions), target=target))


def _stored(site: Site, value: Value, array: Array) -> Array:
    flat = np.ascontiguousarray(array).reshape(-1)
    offset = site.offset(value)
    return (flat.astype(np.int16) + offset).astype(np.uint8) if offset else flat
