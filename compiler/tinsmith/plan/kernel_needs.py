"""How many bytes are live while a node runs, by the kernel that it runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.graph import Graph, Node
from ..kernels.kernel import Kernel
from .bounds import Bounds, lower_bounds
from .live_ranges import in_place, legal_overlaps, live_buffers

Needs = Mapping[tuple[str, str], int]


def kernel_needs(graph: Graph, kernels: Mapping[str, Sequence[Kernel]], alignment: int) -> Needs:
    """(node, kernel) → bytes of the arena that no plan of this order is below.

    kernels: of each node, by name. What a step needs depends on its own kernel alone, so that one
    pass serves a kernel of every node.
    """
    found: dict[tuple[str, str], int] = {}
    for turn in range(max(map(len, kernels.values()), default=0)):
        taken = {name: given[min(turn, len(given) - 1)] for name, given in kernels.items()}
        steps = _bounds(graph, taken, alignment).steps[1:-1]
        for node, need in zip(graph.nodes, steps, strict=True):
            if node.name in taken:
                found[node.name, taken[node.name].name] = need
    return found


def arena_bound(graph: Graph, kernels: Mapping[str, Kernel], alignment: int) -> int:
    """Bytes of the arena that no plan of this order is below. kernels: by the node's name."""
    return _bounds(graph, kernels, alignment).arena


def _bounds(graph: Graph, kernels: Mapping[str, Kernel], alignment: int) -> Bounds:
    def scratch_of(node: Node) -> int:
        kernel = kernels.get(node.name)
        return kernel.scratch_bytes(node, graph) if kernel else 0

    def lead_of(node: Node, index: int) -> int | None:
        kernel = kernels.get(node.name)
        return kernel.lead_bytes(node, index) if kernel else None

    def scratch_lead_of(node: Node, index: int) -> int | None:
        kernel = kernels.get(node.name)
        return kernel.scratch_lead_bytes(node, index) if kernel else None

    buffers = live_buffers(graph, scratch_of, in_place(graph, alignment))
    overlaps = legal_overlaps(graph, buffers, lead_of, scratch_lead_of)
    return lower_bounds(buffers, overlaps, len(graph.nodes), alignment)
