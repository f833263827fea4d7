"""Chooses the kernel of every node: the cheapest one that the target can run.

Cheapest in instructions. Faster kernels often want their weights in a larger form, or more
scratch, so a byte of either may have a price in instructions: none by default, more where memory
matters more or a model would not fit otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import CompileError
from ..ir.dtypes import DType
from ..ir.graph import Graph, Node
from ..machine.target import Target
from . import registry
from .kernel import Kernel, KernelCall

_HIGHEST_PRICE = 2.0**20  # beyond it no kernel is given up for another


@dataclass(frozen=True)
class Prices:
    """What a byte is worth, in instructions of an inference."""

    flash: float = 0.0
    scratch: float = 0.0

    def of(self, call: KernelCall, graph: Graph) -> float:
        """What a call costs, with its memory."""
        instructions = call.kernel.instructions(call.node, graph)
        return instructions + self.flash * _bytes([call]) + self.scratch * call.scratch_bytes


FREE = Prices()
SMALL_FLASH = Prices(flash=128.0)  # weights stay at about their int8 size
SCRATCH_PRICES = (16.0, 128.0, 1024.0)  # to try where the arena does not fit


def select_kernels(
    graph: Graph,
    target: Target,
    kernels: Sequence[Kernel] | None = None,
    *,
    prices: Prices = FREE,
    room: int | None = None,
) -> list[KernelCall]:
    """One call per node in graph order; views get none, they share their input's bytes.

    room: bytes that the constants of all calls may have; the price of flash doubles until they fit,
    or until no kernel is given up for another.

    Raises CompileError naming the first node that has no kernel.
    """
    pool = registry() if kernels is None else kernels
    nodes = [n for n in graph.nodes if not n.op.is_view]
    calls = [_call(n, graph, target, pool, prices) for n in nodes]
    while room is not None and _bytes(calls) > room and prices.flash < _HIGHEST_PRICE:
        prices = replace(prices, flash=max(1.0, 2 * prices.flash))
        calls = [_call(n, graph, target, pool, prices) for n in nodes]
    return calls


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


def _bytes(calls: Iterable[KernelCall]) -> int:
    return sum(c.array.nbytes for call in calls for c in call.constants.values())


def _call(
    node: Node, graph: Graph, target: Target, kernels: Sequence[Kernel], prices: Prices
) -> KernelCall:
    fitting = candidates(node, graph, target.features, kernels)
    if not fitting:
        raise CompileError(
            f"target {target.name} has no {kernel_dtype(node).value} kernel for {node.op.name}",
            node=str(node.origin),
            expected=f"one of the {node.op.name} kernels to apply to {node.x} → {node.y}",
            hint="`tinsmith ops` says which operators have an int8 form; try --dtype float32",
            where="select_kernels",
        )

    def bound(kernel: Kernel) -> KernelCall:
        constants = kernel.constants(node, graph)
        return KernelCall(node, kernel, constants, kernel.scratch_bytes(node, graph))

    if prices == FREE:
        return bound(fitting[0])
    return min((bound(k) for k in fitting), key=lambda call: prices.of(call, graph))
