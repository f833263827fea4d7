"""The kernels that a graph could run with on a board, ranked once for all attempts to plan it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..errors import CompileError
from ..ir.graph import Graph, Stage, Value
from ..kernels import registry
from ..kernels.aim import BY_INSTRUCTIONS, Aim
from ..kernels.select import Candidates, Needs, Selection, rank_kernels, select
from ..machine.board import Board
from ..plan.kernel_needs import arena_bound, kernel_needs
from ..tvm_backend.cuda.kernels import CudaLibrary, cuda_kernels
from ..tvm_backend.cuda.rule import rule_for
from ..tvm_backend.kernels import KernelLibrary, stored_with_offset, tvm_kernels
from .c_text import c_model_name

RUNTIME_BYTES = 8 * 1024  # of flash: what learning, and floats without a unit for them, share
NODE_BYTES = 152  # of flash, to call a function


@dataclass(frozen=True, eq=False)
class Choices:
    """candidates: of each node, by name. room: bytes of flash for constants and code; None: any.

    library, cuda, stored: as in `Program`.
    """

    graph: Graph
    board: Board
    aim: Aim
    candidates: Candidates
    room: int | None
    library: KernelLibrary | None
    cuda: CudaLibrary | None
    stored: frozenset[Value]

    @staticmethod
    def of(
        graph: Graph,
        board: Board,
        aim: Aim = BY_INSTRUCTIONS,
        *,
        library: KernelLibrary | None = None,
        cuda: CudaLibrary | None = None,
    ) -> Choices:
        """library, cuda: where TVM's kernels for this board go, to share it with another program;
        None: one of its own. Raises CompileError for a node that no kernel computes."""
        library = library or kernel_library(graph, board)
        pool, stored = registry(), frozenset[Value]()
        if library is not None:
            stored = stored_with_offset(graph, library.isa)
            pool = (*tvm_kernels(library, stored), *pool)
        cuda = cuda or cuda_library(graph, board)
        if cuda is not None:
            pool = tuple(cuda_kernels())
            _check_rules(graph, board)
        found = rank_kernels(graph, board.target, pool, aim)
        return Choices(graph, board, aim, found, _room(graph, board, aim), library, cuda, stored)

    @cached_property
    def needs(self) -> Needs:
        """(node, kernel) → bytes live while it runs."""
        kernels = {name: [c.kernel for c in found] for name, found in self.candidates.items()}
        return kernel_needs(self.graph, kernels, self.board.target.arena_alignment)

    def select(self, limit: int | None = None) -> Selection:
        """limit: kernels with which more bytes are live at a step are not taken, where there are
        others; None: any. Where the arena has a price, lower ones are tried."""
        if limit is None and not self.aim.arena_price:
            return select(self.candidates, self.aim, self.room)
        found = best = self._within(limit)
        while self.aim.arena_price and found.live_bytes > self.least_bytes:
            limit = found.live_bytes - 1
            found = self._within(limit)
            least = found.weight - self.aim.arena_price * (found.live_bytes - self.least_bytes)
            # It can only cost more from here on.
            if found.live_bytes > limit or found.status == "too large" or least >= best.weight:
                break
            best = min(best, found, key=lambda s: s.weight)
        return best

    def _within(self, limit: int | None) -> Selection:
        return select(self.candidates, self.aim, self.room, self.needs, limit)

    def bound(self, selection: Selection) -> int:
        """Bytes of an arena below which no plan with these kernels is, in the graph's own order."""
        kernels = {c.node.name: c.kernel for c in selection.chosen}
        return arena_bound(self.graph, kernels, self.board.target.arena_alignment)

    def limits(self) -> list[int]:
        """The limits that make a difference, from what every node can keep to upwards, and 0: every
        node takes what needs least."""
        least = self.least_bytes
        return [0, *sorted({least, *(n for n in self.needs.values() if n > least)})]

    @property
    def least_bytes(self) -> int:
        """The lowest limit that every node has a kernel for."""
        each = (
            min(self.needs[name, c.kernel.name] for c in found)
            for name, found in self.candidates.items()
        )
        return max(each, default=0)


def _room(graph: Graph, board: Board, aim: Aim) -> int | None:
    flash = aim.flash_bytes or board.flash_bytes
    if flash is None:
        return None
    plain = (
        graph.stage is not Stage.PARTITIONED
        and not graph.updates
        and all(n.is_integer for n in graph.nodes)
    )
    beside = aim.harness_bytes + (0 if plain else RUNTIME_BYTES)
    return max(0, flash - beside - NODE_BYTES * len(graph.nodes))


def kernel_library(graph: Graph, board: Board) -> KernelLibrary | None:
    """An empty library for a model on a board whose kernels come from TVM, else None."""
    isa = board.target.tvm
    return KernelLibrary(c_model_name(graph.name), isa) if isa is not None else None


def _check_rules(graph: Graph, board: Board) -> None:
    """Raises CompileError for a graph that learns by a scheme that a GPU has no rules for."""
    for node in graph.nodes if graph.updates else ():
        if not node.op.is_view and rule_for(node, graph) is None:
            raise CompileError(
                f"board {board.name} has no {node.op.name} kernel for this scheme",
                node=str(node.origin),
                expected='an int8 model, rule "residual8" or "nearest", gradients "int8", batch 1, '
                "momentum 0",
                hint="change the scheme, or take linux-x86_64 or a microcontroller",
                where="select_kernels",
            )


def cuda_library(graph: Graph, board: Board) -> CudaLibrary | None:
    """An empty library for a model on a board with a GPU, else None.

    Raises CompileError for a graph that is divided.
    """
    if not board.target.cuda:
        return None
    if graph.stage is Stage.PARTITIONED:
        raise CompileError(
            f"board {board.name} takes no protected model",
            hint="take linux-x86_64 or a microcontroller",
        )
    return CudaLibrary(board.target.cuda)
