"""What is emitted: a planned graph with its kernels, and the graph that trains it, if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.dtypes import Array
from ..ir.graph import Graph, Value
from ..kernels.kernel import KernelCall
from ..kernels.select import Selection
from ..plan.model import MemoryPlan
from ..tvm_backend.cuda.kernels import CudaLibrary
from ..tvm_backend.kernels import KernelLibrary
from .c_text import c_model_name


@dataclass(frozen=True)
class Program:
    """What is emitted.

    Attributes:
        graph: stage PLANNED, its nodes in the order they run.
        calls: from `select_kernels`, in the same order.
        sample: one array per graph input, embedded for the self-test; None: seeded random data.
        expected: one array per graph output, what the sample gives; None: as the graph computes it.
            For a graph that asks the secure world, whose answer is not in it.
        library: the functions that TVM compiles, on a board whose kernels come from it.
        stored: activations held as uint8, 128 above their value.
        cuda: the functions that run on a GPU, on a board that has one.
        selection: how the kernels were chosen.
        train: the training graph, whose state this one reads; its own `train` is None.
    """

    graph: Graph
    calls: Sequence[KernelCall]
    plan: MemoryPlan
    sample: Sequence[Array] | None = None
    expected: Sequence[Array] | None = None
    library: KernelLibrary | None = None
    stored: frozenset[Value] = frozenset()
    train: Program | None = None
    cuda: CudaLibrary | None = None
    selection: Selection | None = None

    @property
    def c_name(self) -> str:
        return c_model_name(self.graph.name)

    @property
    def peak_node(self) -> str:
        """The node with which the shared arena peaks."""
        larger = self.train is not None and self.train.plan.arena_bytes > self.plan.arena_bytes
        return self.train.plan.peak_node if self.train and larger else self.plan.peak_node

    @property
    def arena_bytes(self) -> int:
        """Of the arena that all entry points share."""
        return max(self.plan.arena_bytes, self.train.plan.arena_bytes if self.train else 0)
