"""The execution order with the lowest peak of live bytes, scratch and legal overlaps counted.

A state of the search is the set of nodes that have run; what is live follows from it, whatever the
order was. So the best order is a path through sets of nodes whose largest step is smallest:
best-first search finds it exactly while the sets are few, and a beam search stands in when they are
many.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

from ..ir.graph import Graph, Node, Stage, Value
from .bounds import shared_bytes
from .chain import ALIGNMENT, STRIPES
from .live_ranges import LeadOf, ScratchOf, alias_roots, in_place, is_view

EXACT_STATES = 20_000  # sets of nodes the exact search may visit
BEAM = 48

_State = tuple[int, int, tuple[int, ...], int]


def order_nodes(graph: Graph, scratch_of: ScratchOf, lead_of: LeadOf | None = None) -> Graph:
    """The graph at stage SCHEDULED, its nodes in an order whose peak is never above the given
    one's.

    scratch_of: bytes of a node's scratch. lead_of: the kernels' safe overlap; by default none.
    The given order is kept unless another has a lower peak; stripes of a network that does not
    learn come in the best one. Deterministic.
    """
    if not graph.updates and any(STRIPES in n.origin.passes for n in graph.nodes):
        return replace(graph, stage=Stage.SCHEDULED)
    model = _Model.of(graph, scratch_of, lead_of or (lambda node, index: None))
    order = tuple(range(len(graph.nodes)))
    limit = model.peak(order)
    found, complete = _best_first(model, limit)
    if not complete:
        found = _beam(model)
    if found is not None and model.peak(found) < limit:
        order = found
    return replace(graph, nodes=tuple(graph.nodes[i] for i in order), stage=Stage.SCHEDULED)


def peak_bytes(graph: Graph, scratch_of: ScratchOf, lead_of: LeadOf | None = None) -> int:
    """The largest number of bytes live at one node, in the graph's own order."""
    model = _Model.of(graph, scratch_of, lead_of or (lambda node, index: None))
    return model.peak(range(len(graph.nodes)))


@dataclass(frozen=True)
class _Model:
    """Everything as bit masks over node indices.

    Attributes:
        needs: nodes that must run before a node: those it reads from, and the other readers of the
            state it updates.
        users: per buffer, the nodes that read it or a view of it; −1 keeps it to the end.
        bytes: per buffer.
        reads, writes: buffers per node.
        leads: (buffer, lead) per node, the inputs that its first output may overlap if they die.
        first: bytes of the first output per node.
        at_start: buffers of the graph inputs.
    """

    needs: tuple[int, ...]
    users: tuple[int, ...]
    bytes: tuple[int, ...]
    reads: tuple[tuple[int, ...], ...]
    writes: tuple[tuple[int, ...], ...]
    leads: tuple[tuple[tuple[int, int], ...], ...]
    first: tuple[int, ...]
    scratch: tuple[int, ...]
    at_start: tuple[int, ...]

    @staticmethod
    def of(graph: Graph, scratch_of: ScratchOf, lead_of: LeadOf) -> _Model:
        laid_out = in_place(graph, ALIGNMENT)
        roots = alias_roots(graph, laid_out)
        buffers = list(dict.fromkeys(roots.values()))
        number = {root: i for i, root in enumerate(buffers)}
        users = [0] * len(buffers)
        made: dict[Value, int] = {}
        needs: list[int] = []
        readers = _readers_of_state(graph)
        for k, node in enumerate(graph.nodes):
            needs.append(reduce(or_, (1 << made[v] for v in node.inputs if v in made), 0))
            needs[k] |= reduce(or_, (readers[old] for old, _ in node.updates), 0) & ~(1 << k)
            made |= dict.fromkeys(node.outputs, k)
            for value in node.inputs:
                if value in roots:
                    users[number[roots[value]]] |= 1 << k
        for value in graph.outputs:
            if value in roots:
                users[number[roots[value]]] = -1

        def lead(node: Node, position: int) -> int | None:
            if node.name in laid_out:
                return 0  # the parts of a concatenation are its bytes
            producer = graph.producer.get(node.inputs[position])
            sliced = producer is not None and producer.name in laid_out and _is_slice(producer)
            return None if sliced else lead_of(node, position)

        def leads(node: Node) -> tuple[tuple[int, int], ...]:
            given: dict[int, list[int | None]] = {}
            if not is_view(graph, node) and not (_is_slice(node) and node.name in laid_out):
                for position, value in enumerate(node.inputs):
                    if value in roots:
                        given.setdefault(number[roots[value]], []).append(lead(node, position))
            known = {b: [x for x in xs if x is not None] for b, xs in given.items()}
            return tuple((b, max(xs)) for b, xs in known.items() if len(xs) == len(given[b]))

        return _Model(
            tuple(needs),
            tuple(users),
            tuple(b.type.bytes for b in buffers),
            tuple(
                tuple({number[roots[v]]: 0 for v in node.inputs if v in roots})
                for node in graph.nodes
            ),
            tuple(
                tuple(number[v] for v in node.outputs if roots.get(v) == v) for node in graph.nodes
            ),
            tuple(leads(node) for node in graph.nodes),
            tuple(n.outputs[0].type.bytes if n.outputs[0] in roots else 0 for n in graph.nodes),
            tuple(scratch_of(node) for node in graph.nodes),
            tuple(number[v] for v in dict.fromkeys(graph.inputs)),
        )

    def start(self) -> int:
        """Bytes live before the first node."""
        return sum(self.bytes[b] for b in self.at_start)

    def unread(self) -> int:
        """Bytes of graph inputs that no node reads."""
        return sum(self.bytes[b] for b in self.at_start if not self.users[b])

    def step(self, done: int, live: int, node: int) -> tuple[int, int]:
        """(bytes needed while `node` runs, bytes live after it); `live`: bytes live before it.

        An unread graph input counts until the first node, as in `live_ranges`.
        """
        after = done | 1 << node
        if not done:
            live -= self.unread()
        born = sum(self.bytes[b] for b in self.writes[node])
        dead = {
            b
            for b in (*self.reads[node], *self.writes[node])
            if self.users[b] != -1 and not self.users[b] & ~after
        }
        dying = [(self.bytes[b], lead) for b, lead in self.leads[node] if b in dead]
        shared = shared_bytes(self.first[node], dying) if dying else 0
        needed = live + born + self.scratch[node] - shared
        return needed, live + born - sum(self.bytes[b] for b in dead)

    def peak(self, order: Sequence[int]) -> int:
        done, live = 0, self.start()
        peak = live
        for node in order:
            needed, live = self.step(done, live, node)
            done |= 1 << node
            peak = max(peak, needed)
        return peak

    def worth_trying(self, done: int, live: int, peak: int) -> list[tuple[int, int, int]]:
        """(node, bytes needed while it runs, bytes live after it) of the nodes to run next.

        A node that needs no more than the peak so far and leaves no more live than before is the
        only one: the more nodes have run the more of its inputs it frees, so at any later time it
        would lower what is live at least as much, and until then the others have it easier with it.
        """
        found: list[tuple[int, int, int]] = []
        kept = live if done else live - self.unread()  # which any first node ends, not this one
        for node in self.ready(done):
            needed, after = self.step(done, live, node)
            if needed <= peak and after <= kept:
                return [(node, needed, after)]
            found.append((node, needed, after))
        return found

    def ready(self, done: int) -> list[int]:
        return [k for k, needs in enumerate(self.needs) if not done >> k & 1 and not needs & ~done]


def _is_slice(node: Node) -> bool:
    return node.op.name == "slice"


def _readers_of_state(graph: Graph) -> dict[Value, int]:
    """Per version of a state, the set of nodes that read it."""
    readers = dict.fromkeys(graph.storage, 0)
    for k, node in enumerate(graph.nodes):
        for value in node.inputs:
            if value in readers:
                readers[value] |= 1 << k
    return readers


def _best_first(model: _Model, limit: int) -> tuple[tuple[int, ...] | None, bool]:
    """The order with the lowest peak below `limit`, if there is one; False: too many sets to
    tell."""
    every = (1 << len(model.needs)) - 1
    came: dict[int, tuple[int, int]] = {}
    best = {0: model.start()}
    heap = [(model.start(), 0, 0, model.start())]  # peak, −nodes run, set of nodes run, bytes live
    while heap:
        peak, count, done, live = heapq.heappop(heap)
        if done == every:
            return _walk_back(came, done), True
        if peak > best[done]:
            continue
        for node, needed, after in model.worth_trying(done, live, peak):
            reached, cost = done | 1 << node, max(peak, needed)
            if cost < best.get(reached, limit):
                best[reached] = cost
                came[reached] = (done, node)
                heapq.heappush(heap, (cost, count - 1, reached, after))
        if len(best) > EXACT_STATES:
            return None, False
    return None, True


def _walk_back(came: dict[int, tuple[int, int]], done: int) -> tuple[int, ...]:
    order: list[int] = []
    while done:
        done, node = came[done]
        order.append(node)
    return tuple(reversed(order))


def _beam(model: _Model) -> tuple[int, ...]:
    """A good order: the states with the lowest peak, then the least live, survive each step."""
    states: list[_State] = [
        (model.start(), model.start(), (), 0)
    ]  # peak, bytes live, order so far, set of nodes
    for _ in model.needs:
        reached: dict[int, _State] = {}
        for peak, live, path, done in states:
            for node, needed, after in model.worth_trying(done, live, peak):
                state = (max(peak, needed), after, (*path, node), done | 1 << node)
                reached[state[3]] = min(state, reached.get(state[3], state))
        states = sorted(reached.values())[:BEAM]
    return states[0][2]
