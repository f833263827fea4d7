"""What a kernel costs on a layer: measured, by the formula calibrated for the core, or by its own
estimate.

A formula is linear in counts. Those of every kernel are its own estimate of instructions, which has
the blocks, their rounds and tails in it, and the plain sizes of the layer; a kernel with several
forms says more by `Kernel.counts`.
"""

from __future__ import annotations

import hashlib
from functools import cache

from .. import paths
from ..ir.graph import Graph, Node
from ..machine.costs import Cost, evaluate, load_costs
from ..machine.target import Target
from .geometry import conv_geometry
from .kernel import UNKNOWN_INSTRUCTIONS, Kernel


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
    known = counts(kernel, node, graph)
    cycles = evaluate(formula.cycles, known) if formula.cycles else None
    return Cost(evaluate(formula.instructions, known), cycles, formula.code_bytes)


def counts(kernel: Kernel, node: Node, graph: Graph) -> dict[str, float]:
    """What a formula of this kernel may be made of. An estimate that is unknown counts 0."""
    estimate = kernel.instructions(node, graph)
    found = {
        "call": 1.0,
        "estimate": estimate if estimate < UNKNOWN_INSTRUCTIONS else 0.0,
        "inputs": float(sum(v.type.elements for v in graph.activations(node))),
        "outputs": float(sum(v.type.elements for v in graph.results(node))),
        "macs": float(node.op.macs(node)),
    }
    if node.op.name == "conv2d":
        g = conv_geometry(node)
        found |= {
            "rows": float(g.out_h),
            "pixels": float(g.pixels),
            "lines": float(g.pixels * g.kernel_h),
            "windows": float(g.pixels * g.kernel_h * g.kernel_w * g.in_c),
            "channels": float(g.out_c),
            "channel_rows": float(g.out_c * g.out_h),
        }
    return found | dict(kernel.counts(node, graph))


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
