"""Chooses the kernel of every node: the cheapest choice that the flash and the RAM have room for.

What is cheap, `Aim` says. Faster kernels often want their weights in a larger form, or more
scratch. Flash couples the choices of all layers, which `choose.py` solves; RAM is asked of each
step alone: `needs` says what is live there with a kernel, `limit` what may be.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import CompileError
from ..ir.dtypes import DType
from ..ir.graph import Graph, Node
from ..machine.target import Target
from . import registry
from .aim import BY_INSTRUCTIONS, Aim, Objective
from .candidate import Candidate
from .choose import Option, Status, choose
from .costs import cost
from .kernel import Kernel, KernelCall

Needs = Mapping[tuple[str, str], int]  # (node, kernel) → bytes
Candidates = Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True)
class Selection:
    """The kernels of a program, and what else there was.

    chosen: per node in graph order; views have none, they share their input's bytes. candidates:
    of each node by name, cheapest first. status: how good the choice is proved to be. room: bytes
    that flash has for constants and code; None: any. needs, limit: bytes live at a node with a
    kernel, and how many may be; None: any.
    """

    aim: Aim
    chosen: Sequence[Candidate]
    candidates: Candidates
    status: Status = "optimal"
    room: int | None = None
    needs: Needs | None = None
    limit: int | None = None

    @cached_property
    def calls(self) -> list[KernelCall]:
        return [c.call for c in self.chosen]

    @property
    def value(self) -> float:
        """Estimated cycles, or instructions, of all nodes."""
        return sum(c.value(self.aim.objective) for c in self.chosen)

    @property
    def weight(self) -> float:
        """What the choice makes least, at the prices of bytes; where live bytes were asked for."""
        flash = self.aim.price * _bytes(self.chosen, self.aim.objective)
        return self.value + flash + self.aim.arena_price * self.live_bytes

    @property
    def live_bytes(self) -> int:
        """At some node, with the kernel it has; 0 where it was not asked for."""
        needs = self.needs or {}
        each = (needs.get((c.node.name, c.kernel.name), 0) for c in self.chosen)
        return max(each, default=0)

    @property
    def flash_bytes(self) -> int:
        """Of constants and code."""
        return _bytes(self.chosen)


def select_kernels(
    graph: Graph,
    target: Target,
    kernels: Sequence[Kernel] | None = None,
    *,
    aim: Aim = BY_INSTRUCTIONS,
    room: int | None = None,
) -> list[KernelCall]:
    """One call per node in graph order, without a limit on RAM. Raises as `rank_kernels`."""
    pool = registry() if kernels is None else kernels
    return select(rank_kernels(graph, target, pool, aim), aim, room).calls


def rank_kernels(graph: Graph, target: Target, kernels: Sequence[Kernel], aim: Aim) -> Candidates:
    """What can compute each node, by its name, cheapest first; ties keep the registry's order.

    Raises CompileError naming the first node that has no kernel, or not the one that is wanted.
    """
    aim.check(target)
    nodes = [n for n in graph.nodes if not n.op.is_view]
    return {n.name: _ranked(n, graph, target, kernels, aim) for n in nodes}


def select(
    every: Candidates,
    aim: Aim = BY_INSTRUCTIONS,
    room: int | None = None,
    needs: Needs | None = None,
    limit: int | None = None,
) -> Selection:
    """The cheapest choice among the candidates of all nodes.

    room: bytes that constants and code may have; where nothing fits, the fewest bytes. needs,
    limit: bytes live at a node with a kernel, and how many may be; a node that has no such kernel
    takes the one that needs least.
    """
    allowed = [_allowed(found, aim, needs, limit) for found in every.values()]
    chosen = [options[0] for options in allowed]
    status: Status = "optimal"
    if aim.price or (room is not None and _bytes(chosen) > room):
        layers = [rows for group in _groups(allowed) for rows in _rows(group, aim.objective)]
        options = [[_option(row, aim.objective) for row in rows] for rows in layers]
        found = choose(options, room, aim.price)
        picked = [c for rows, p in zip(layers, found.picks, strict=True) for c in rows[p]]
        by_node = {c.node.name: c for c in picked}
        chosen = [by_node[name] for name in every]
        status = found.status
    return Selection(aim, chosen, every, status, room, needs, limit)


def _bytes(chosen: Iterable[Candidate], objective: Objective = "instructions") -> int:
    """Of constants and code."""
    options = [(c, c.option(objective)) for c in chosen]
    code = {o.function: o.code_bytes for _, o in options}
    constants = {(c.kernel.name, _constants(c)): o.bytes for c, o in options}
    return sum(code.values()) + sum(constants.values())


def _constants(candidate: Candidate) -> Hashable:
    """Equal for nodes with the same constants: those that compute rows of one layer."""
    node = candidate.node
    return node.inputs[1:] if node.op.name == "conv2d" else node.name


def _groups(allowed: Iterable[Sequence[Candidate]]) -> Iterable[list[Sequence[Candidate]]]:
    """The candidates of nodes with the same constants together."""
    found: dict[Hashable, list[Sequence[Candidate]]] = {}
    for layer in allowed:
        found.setdefault(_constants(layer[0]), []).append(layer)
    return found.values()


def _rows(
    group: Sequence[Sequence[Candidate]], objective: Objective
) -> Iterator[list[tuple[Candidate, ...]]]:
    """What the nodes of a group can be computed with: all with one kernel, so that its constants
    count once; where none is common to all, each with one of its own."""
    named = [{c.kernel.name: c for c in layer} for layer in group]
    common = [name for name in named[0] if all(name in found for found in named)]
    if not common:
        yield from ([(c,) for c in layer] for layer in group)
        return
    rows = [tuple(found[name] for found in named) for name in common]
    yield sorted(rows, key=lambda row: sum(c.value(objective) for c in row))


def _option(row: Sequence[Candidate], objective: Objective) -> Option:
    options = [c.option(objective) for c in row]
    code = {o.function: o.code_bytes for o in options}
    function = options[0].function if len(code) == 1 else frozenset(code)
    return Option(sum(o.cost for o in options), options[0].bytes, function, sum(code.values()))


def _allowed(
    found: Sequence[Candidate], aim: Aim, needs: Needs | None, limit: int | None
) -> list[Candidate]:
    wanted = aim.pin(found[0].node)
    pinned = [c for c in found if c.kernel.name == wanted]
    if pinned:
        return pinned
    if needs is None or limit is None:
        return list(found)
    need = [needs[c.node.name, c.kernel.name] for c in found]
    fitting = [c for c, n in zip(found, need, strict=True) if n <= limit]
    return fitting or [found[need.index(min(need))]]


def _ranked(
    node: Node, graph: Graph, target: Target, kernels: Iterable[Kernel], aim: Aim
) -> list[Candidate]:
    fitting = candidates(node, graph, target.features, kernels)
    if not fitting:
        raise CompileError(
            f"target {target.name} has no {kernel_dtype(node).value} kernel for {node.op.name}",
            node=str(node.origin),
            expected=f"one of the {node.op.name} kernels to apply to {node.x} → {node.y}",
            hint="`tinsmith ops` says which operators have an int8 form; try --dtype float32",
            where="select_kernels",
        )
    made = [Candidate(node, graph, k, cost(k, node, graph, target)) for k in fitting]
    return sorted(made, key=lambda c: c.value(aim.objective))


def candidates(
    node: Node, graph: Graph, features: frozenset[str], kernels: Iterable[Kernel]
) -> list[Kernel]:
    """The kernels that can compute `node`, cheapest by their own estimate first; ties keep the
    registry's order."""
    fitting = (
        k
        for k in kernels
        if k.op == node.op.name
        and k.dtype is kernel_dtype(node)
        and k.features <= features
        and _takes_state(k, node, graph)
        and k.applies(node, graph)
    )
    return sorted(fitting, key=lambda k: k.instructions(node, graph))


def _takes_state(kernel: Kernel, node: Node, graph: Graph) -> bool:
    held = {v for v in node.inputs if v in graph.storage}
    return not held or held <= set(kernel.state(node, graph).values())


def kernel_dtype(node: Node) -> DType:
    """INT8 for a node in its integer meaning, else FLOAT32."""
    return DType.INT8 if node.is_integer else DType.FLOAT32


def generic_kernels(calls: Iterable[KernelCall], target: Target) -> Iterator[str]:
    """What to say of nodes that compute much with a portable kernel where tuned ones exist."""
    tuned = {k.op for k in registry() if k.features and k.features <= target.features}
    for call in calls:
        node, kernel = call.node, call.kernel
        if node.op.name in tuned and not kernel.features and kernel.dtype is DType.INT8:
            yield (
                f"{node.op.name} {node.name} ({node.origin}) runs with the generic kernel "
                f"{kernel.name}: {node.op.macs(node):,} MACs"
            )
