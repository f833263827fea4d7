"""What a kernel costs on a layer: measured, by the formula calibrated for the core, or by its own
estimate.

A formula is linear in counts of the layer (`counts/`).
"""

from __future__ import annotations

import hashlib
from functools import cache

from .. import paths
from ..ir.graph import Graph, Node
from ..machine.costs import Cost, load_costs
from ..machine.target import Target
from .counts import counts
from .kernel import Kernel


def cost(kernel: Kernel, node: Node, graph: Graph, target: Target) -> Cost:
    """What `tune` measured, else by the core's formula, else the kernel's own estimate of
    instructions, without cycles."""
    if target.measured:
        found = target.measured.get(layer_key(kernel, node, graph))
        if found is not None:
            return found
    table = load_costs(target.name)
    formula = None if table is None else table.kernels.get(kernel.name)
    if formula is None:
        return Cost(kernel.instructions(node, graph))
    return formula.cost(counts(kernel, node, graph))


def layer_key(kernel: Kernel, node: Node, graph: Graph) -> str:
    """Equal for layers on which a kernel costs the same: its function's text follows from the view,
    and where its constants and activations lie does not matter."""
    shapes = [str(v.type.shape) for v in (*graph.activations(node), *graph.results(node))]
    facts = (kernel.name, *shapes, repr(sorted(kernel.view(node, graph).items())))
    return f"{kernel.name}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:20]}"


@cache
def kernels_digest() -> str:
    """Of all that kernels are made from: what was measured with others does not count."""
    digest = hashlib.sha256()
    for folder, pattern in (
        (paths.TARGETS, "*/kernels/*.j2"),
        (paths.OP_TEMPLATES, "*.j2"),
        (paths.RUNTIME_C / "include", "**/*.h"),
    ):
        for path in sorted(folder.glob(pattern)):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:20]
