"""Chooses the kernel of every node: the cheapest one that the target can run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import CompileError
from ..ir.dtypes import DType
from ..ir.graph import Graph, Node
from ..machine.target import Target
from . import registry
from .kernel import Kernel, KernelCall


def select_kernels(
    graph: Graph, target: Target, kernels: Sequence[Kernel] | None = None
) -> list[KernelCall]:
    """One call per node in graph order; views get none, they share their input's bytes.

    Raises CompileError naming the first node that has no kernel.
    """
    pool = registry() if kernels is None else kernels
    return [_call(n, graph, target, pool) for n in graph.nodes if not n.op.is_view]


def candidates(
    node: Node, graph: Graph, features: frozenset[str], kernels: Iterable[Kernel]
) -> list[Kernel]:
    """The kernels that can compute `node`, cheapest first; ties keep the registry's order."""
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


def _call(node: Node, graph: Graph, target: Target, kernels: Sequence[Kernel]) -> KernelCall:
    fitting = candidates(node, graph, target.features, kernels)
    if not fitting:
        raise CompileError(
            f"target {target.name} has no {kernel_dtype(node).value} kernel for {node.op.name}",
            node=str(node.origin),
            expected=f"one of the {node.op.name} kernels to apply to {node.x} → {node.y}",
            hint="`tinsmith ops` says which operators have an int8 form; try --dtype float32",
            where="select_kernels",
        )
    kernel = fitting[0]
    constants = kernel.constants(node, graph)
    return KernelCall(node, kernel, constants, kernel.scratch_bytes(node, graph))
